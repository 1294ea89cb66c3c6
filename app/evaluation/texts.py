"""Metrics of texts: sacrebleu's BLEU and chrF, Google's ROUGE, jiwer's error rates, SQuAD's exact match and F1."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from app.dataset.extras import needed
from app.evaluation.metric import Metric, Score, mean_of, ratio_of, summed
from app.evaluation.pairs import Kind, Pair

_ORDER = 4  # of BLEU's n-grams
_TEXTS = (Kind.TEXT, Kind.ANSWER)


def _bleu(pairs: Sequence[Pair]) -> Score:
    """Of the corpus, as sacrebleu's default computes it."""
    bleu = needed("sacrebleu.metrics", "eval").BLEU(effective_order=True)
    counts = []
    for pair in pairs:
        one = bleu.sentence_score(pair.predicted, list(pair.reference))
        counts.append([one.sys_len, one.ref_len, *one.counts, *one.totals])

    def combine(sums: Iterable[float]) -> float:
        sys_len, ref_len, *rest = (int(one) for one in sums)
        found = bleu.compute_bleu(rest[:_ORDER], rest[_ORDER:], sys_len, ref_len, smooth_method="exp")
        return float(found.score)

    return summed(counts, combine)


def _chrf(pairs: Sequence[Pair]) -> Score:
    chrf = needed("sacrebleu.metrics", "eval").CHRF()
    # What sacrebleu's own bootstrap is made of; it has no public name for it.
    counts = [chrf._extract_corpus_statistics([pair.predicted], [[one] for one in pair.reference])[0] for pair in pairs]
    return summed(counts, lambda sums: float(chrf._compute_score_from_stats([int(one) for one in sums]).score))


def _rouge(kind: str) -> Callable[[Sequence[Pair]], Score]:
    """F-measure with a stemmer, the best of several references; 0 to 1."""

    def prepare(pairs: Sequence[Pair]) -> Score:
        scorer = needed("rouge_score.rouge_scorer", "eval").RougeScorer([kind], use_stemmer=True)
        return mean_of([scorer.score_multi(list(pair.reference), pair.predicted)[kind].fmeasure for pair in pairs])

    return prepare


def _error_rate(function: str) -> Callable[[Sequence[Pair]], Score]:
    """Insertions, deletions and substitutions over the length of the first reference."""

    def prepare(pairs: Sequence[Pair]) -> Score:
        process = getattr(needed("jiwer", "eval"), function)
        counts = []
        for pair in pairs:
            found = process(pair.reference[0], pair.predicted)
            wrong = found.substitutions + found.deletions
            counts.append((wrong + found.insertions, wrong + found.hits))
        return ratio_of(counts)

    return prepare


def _exact_match(pairs: Sequence[Pair]) -> Score:
    return mean_of([float(pair.predicted.strip() in {one.strip() for one in pair.reference}) for pair in pairs])


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad_words(text: str) -> list[str]:
    """As SQuAD's script takes answers: lower case, without punctuation and articles."""
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()


def _squad_exact_match(pairs: Sequence[Pair]) -> Score:
    return mean_of(
        [float(any(squad_words(pair.predicted) == squad_words(one) for one in pair.reference)) for pair in pairs]
    )


def squad_f1(predicted: str, reference: str) -> float:
    """Of the words that both have."""
    ours, theirs = squad_words(predicted), squad_words(reference)
    if not ours or not theirs:
        return float(ours == theirs)
    common = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * common / (len(ours) + len(theirs))


def _squad_f1(pairs: Sequence[Pair]) -> Score:
    return mean_of([max(squad_f1(pair.predicted, one) for one in pair.reference) for pair in pairs])


METRICS = (
    Metric(name="exact-match", kinds=(Kind.ANSWER,), prepare=_squad_exact_match),
    Metric(name="f1", kinds=(Kind.ANSWER,), prepare=_squad_f1),
    Metric(name="exact-match", kinds=(Kind.TEXT,), prepare=_exact_match),
    Metric(name="bleu", kinds=_TEXTS, prepare=_bleu),
    Metric(name="chrf", kinds=_TEXTS, prepare=_chrf),
    *(Metric(name=name.lower(), kinds=_TEXTS, prepare=_rouge(name)) for name in ("rouge1", "rouge2", "rougeL")),
    Metric(name="wer", kinds=_TEXTS, prepare=_error_rate("process_words"), is_better_lower=True),
    Metric(name="cer", kinds=_TEXTS, prepare=_error_rate("process_characters"), is_better_lower=True),
)
