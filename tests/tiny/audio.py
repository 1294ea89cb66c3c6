"""Sound models: classifiers, recognition by CTC and by generation, synthesis, CLAP."""

from __future__ import annotations

import json
import string
import zlib
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    BarkConfig,
    BarkModel,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    EncodecConfig,
    GenerationConfig,
    HubertConfig,
    HubertForCTC,
    MusicgenConfig,
    MusicgenForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Speech2TextConfig,
    Speech2TextFeatureExtractor,
    Speech2TextForConditionalGeneration,
    SpeechEncoderDecoderConfig,
    SpeechEncoderDecoderModel,
    SpeechT5Config,
    SpeechT5ForTextToSpeech,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
    T5Config,
    TrOCRConfig,
    VitsConfig,
    VitsModel,
    VitsTokenizer,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2ForSequenceClassification,
    WavLMConfig,
    WavLMForCTC,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForAudioClassification,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)
from transformers.models.bark.configuration_bark import (
    BarkCoarseConfig,
    BarkFineConfig,
    BarkSemanticConfig,
)

LABELS = ("dog", "rain", "siren", "speech")
_BOUNDED = ("logit_scale",)  # a scale within exp(): a wide random one says nothing


def _spread(model: PreTrainedModel, seed: int, scale: float = 0.5) -> PreTrainedModel:
    """Weights that depend on nothing but the seed and their names, wide enough for different sounds to differ."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if any(part in name for part in _BOUNDED):
                continue
            numbers = np.random.RandomState(zlib.crc32(name.encode()) ^ seed).standard_normal(tuple(weight.shape))
            if name.endswith("bias"):
                weight.copy_(torch.from_numpy(np.asarray(numbers * 0.1)))
            elif "norm" not in name.lower():
                weight.copy_(torch.from_numpy(np.asarray(numbers * scale)))
    return model


def _labels(labels: tuple[str, ...] = LABELS) -> dict[str, Any]:
    return {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}}


_WAV2VEC2: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (8, 8, 8),
    "conv_kernel": (10, 5, 5),
    "conv_stride": (8, 6, 6),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 16,
    "mask_time_prob": 0.0,
}
"""One output in 288 samples, 18 ms; the shortest sound has 234 samples, 15 ms."""
_LAYER_NORM: dict[str, Any] = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}


def _wav2vec2_extractor(folder: Path, *, with_mask: bool) -> None:
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=with_mask).save_pretrained(folder)


def wav2vec2_classifier(folder: Path) -> None:
    """With group norm, as wav2vec2-base: padding would change its answers."""
    _spread(Wav2Vec2ForSequenceClassification(Wav2Vec2Config(**_WAV2VEC2, **_labels())), 1).save_pretrained(folder)
    _wav2vec2_extractor(folder, with_mask=False)


def wav2vec2_masked_classifier(folder: Path) -> None:
    """With layer norm and attention masks, as wav2vec2-large: it can be padded."""
    config = Wav2Vec2Config(**_WAV2VEC2, **_LAYER_NORM, **_labels())
    _spread(Wav2Vec2ForSequenceClassification(config), 2).save_pretrained(folder)
    _wav2vec2_extractor(folder, with_mask=True)


def ast_classifier(folder: Path) -> None:
    config = ASTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_length=64,
        num_mel_bins=32, **_labels(),
    )  # fmt: skip
    _spread(ASTForAudioClassification(config), 3).save_pretrained(folder)
    ASTFeatureExtractor(num_mel_bins=32, max_length=64, mean=-4.0, std=4.5).save_pretrained(folder)


def whisper_classifier(folder: Path) -> None:
    config = WhisperConfig(**_whisper_sizes(), **_labels())
    _spread(WhisperForAudioClassification(config), 4, 0.3).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=16).save_pretrained(folder)


# Recognition


def _ctc_tokenizer(folder: Path) -> int:
    tokens = ["<pad>", "<s>", "</s>", "<unk>", "|", *string.ascii_uppercase, "'"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    return len(tokens)


def wav2vec2_ctc(folder: Path) -> None:
    """As wav2vec2-base-960h: no attention mask, so only sounds of equal length may meet."""
    folder.mkdir(parents=True, exist_ok=True)
    config = Wav2Vec2Config(**_WAV2VEC2, vocab_size=_ctc_tokenizer(folder), pad_token_id=0)
    _spread(Wav2Vec2ForCTC(config), 5).save_pretrained(folder)
    _wav2vec2_extractor(folder, with_mask=False)


def wav2vec2_masked_ctc(folder: Path) -> None:
    _masked_ctc(folder, Wav2Vec2ForCTC, Wav2Vec2Config, 6)


def hubert_ctc(folder: Path) -> None:
    _masked_ctc(folder, HubertForCTC, HubertConfig, 7)


def wavlm_ctc(folder: Path) -> None:
    _masked_ctc(folder, WavLMForCTC, WavLMConfig, 8)


def _masked_ctc(folder: Path, model_class: Any, config_class: Any, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config = config_class(**_WAV2VEC2, **_LAYER_NORM, vocab_size=_ctc_tokenizer(folder), pad_token_id=0)
    _spread(model_class(config), seed).save_pretrained(folder)
    _wav2vec2_extractor(folder, with_mask=True)


LANGUAGES = ("en", "de", "fr")
_WHISPER_SPECIAL = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    *(f"<|{language}|>" for language in LANGUAGES),
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
)


def _bytes_vocabulary() -> dict[str, int]:
    return {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}


def _bytes_that_are_no_letters(offset: int = 0) -> list[int]:
    """Never written, so that answers can be read."""
    return [
        index + offset
        for letter, index in _bytes_vocabulary().items()
        if letter not in string.ascii_letters and letter != "Ġ"
    ]


def _whisper_tokenizer_of(vocabulary: dict[str, int]) -> WhisperTokenizer:
    if "vocab" in signature(WhisperTokenizer).parameters:
        return WhisperTokenizer(vocab=vocabulary, merges=[], pad_token="<|endoftext|>")
    with TemporaryDirectory() as folder:  # before transformers 5
        vocab, merges = Path(folder, "vocab.json"), Path(folder, "merges.txt")
        vocab.write_text(json.dumps(vocabulary))
        merges.write_text("#version: 0.2\n")
        return WhisperTokenizer(str(vocab), str(merges), pad_token="<|endoftext|>")


def _whisper_tokenizer() -> WhisperTokenizer:
    """All bytes, no merges, and the special tokens and times of Whisper."""
    times = [f"<|{place * 0.02:.2f}|>" for place in range(1501)]
    vocabulary = _bytes_vocabulary()
    for token in (*_WHISPER_SPECIAL, *times):
        vocabulary[token] = len(vocabulary)
    tokenizer = _whisper_tokenizer_of(vocabulary)
    tokenizer.add_special_tokens({"additional_special_tokens": list(_WHISPER_SPECIAL)})
    tokenizer.add_tokens([AddedToken(time, special=False, normalized=False) for time in times])
    return tokenizer


def _whisper_sizes() -> dict[str, Any]:
    return {
        "vocab_size": 256 + len(_WHISPER_SPECIAL) + 1501,
        "num_mel_bins": 16,
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "max_target_positions": 64,
        "pad_token_id": 256,
        "bos_token_id": 256,
        "eos_token_id": 256,
        "decoder_start_token_id": 257,
        "begin_suppress_tokens": None,
        "suppress_tokens": None,
    }


def whisper(folder: Path) -> None:
    """Multilingual, with times of words; answers have at most 20 tokens."""
    tokenizer = _whisper_tokenizer()
    model = _spread(WhisperForConditionalGeneration(WhisperConfig(**_whisper_sizes())), 33)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in _WHISPER_SPECIAL}
    model.generation_config = GenerationConfig(
        alignment_heads=[[0, 0], [1, 1]],
        begin_suppress_tokens=[ids["<|endoftext|>"]],
        bos_token_id=ids["<|endoftext|>"],
        decoder_start_token_id=ids["<|startoftranscript|>"],
        eos_token_id=ids["<|endoftext|>"],
        pad_token_id=ids["<|endoftext|>"],
        is_multilingual=True,
        lang_to_id={f"<|{language}|>": ids[f"<|{language}|>"] for language in LANGUAGES},
        max_initial_timestamp_index=50,
        max_length=24,
        no_timestamps_token_id=ids["<|notimestamps|>"],
        prev_sot_token_id=ids["<|startofprev|>"],
        return_timestamps=False,
        suppress_tokens=[
            *_bytes_that_are_no_letters(),
            *(ids[name] for name in ("<|startoflm|>", "<|startofprev|>", "<|nospeech|>")),
        ],
        task_to_id={"transcribe": ids["<|transcribe|>"], "translate": ids["<|translate|>"]},
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=16).save_pretrained(folder)


def _letters_tokenizer(folder: Path, **special: str) -> PreTrainedTokenizerFast:
    """Bytes as tokens after <s>, <pad>, </s>, <unk>: 260 of them."""
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", **special}
    vocabulary = {name: index for index, name in enumerate(("<s>", "<pad>", "</s>", "<unk>"))}
    vocabulary.update({letter: index + 4 for letter, index in _bytes_vocabulary().items()})
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=128, **names)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.save_pretrained(folder)
    return tokenizer


_DECODER: dict[str, Any] = {
    "vocab_size": 260,
    "d_model": 16,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 32,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}


def speech_to_text(folder: Path) -> None:
    """Speech2Text: filter banks, normalized over each sound. (Its own tokenizer needs sentencepiece.)"""
    config = Speech2TextConfig(
        **_DECODER, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=32, max_source_positions=2000,
        max_target_positions=64, conv_channels=16, input_feat_per_channel=16, num_conv_layers=2,
    )  # fmt: skip
    model = _spread(Speech2TextForConditionalGeneration(config), 31)
    model.generation_config.max_new_tokens = 16
    model.generation_config.suppress_tokens = _bytes_that_are_no_letters(offset=4)
    model.save_pretrained(folder)
    _letters_tokenizer(folder)
    Speech2TextFeatureExtractor(feature_size=16, num_mel_bins=16).save_pretrained(folder)


def speech_encoder_decoder(folder: Path) -> None:
    """wav2vec2 that listens and TrOCR's decoder that writes."""
    config = SpeechEncoderDecoderConfig.from_encoder_decoder_configs(
        Wav2Vec2Config(**_WAV2VEC2, **_LAYER_NORM),
        TrOCRConfig(**_DECODER, max_position_embeddings=64, cross_attention_hidden_size=16),
    )
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 2, 1, 2
    model = _spread(SpeechEncoderDecoderModel(config=config), 28)
    model.generation_config = GenerationConfig(
        max_new_tokens=12,
        decoder_start_token_id=2,
        pad_token_id=1,
        eos_token_id=2,
        bos_token_id=0,
        suppress_tokens=_bytes_that_are_no_letters(offset=4),
    )
    model.save_pretrained(folder)
    _letters_tokenizer(folder)
    _wav2vec2_extractor(folder, with_mask=True)


# Synthesis


def vits(folder: Path, num_voices: int = 1) -> None:
    """As the MMS voices: a stochastic duration predictor, letters with blanks between them."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = ["_", "<unk>", " ", *string.ascii_lowercase, "'", "-"]
    (folder / "vocab.json").write_text(json.dumps({letter: index for index, letter in enumerate(letters)}))
    tokenizer = VitsTokenizer(
        str(folder / "vocab.json"), pad_token="_", unk_token="<unk>", add_blank=True, normalize=True, phonemize=False
    )
    config = VitsConfig(
        vocab_size=len(letters), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=16,
        flow_size=16, spectrogram_bins=9, upsample_initial_channel=16, upsample_rates=[4, 4],
        upsample_kernel_sizes=[8, 8], resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 3]],
        prior_encoder_num_flows=2, prior_encoder_num_wavenet_layers=1, posterior_encoder_num_wavenet_layers=1,
        duration_predictor_num_flows=2, duration_predictor_filter_channels=16, depth_separable_num_layers=1,
        sampling_rate=16_000, num_speakers=num_voices, speaker_embedding_size=4 if num_voices > 1 else 0,
    )  # fmt: skip
    _spread(VitsModel(config), 12, 0.2).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _encodec() -> EncodecConfig:
    return EncodecConfig(
        target_bandwidths=[6.4], sampling_rate=16_000, hidden_size=16, num_filters=4, upsampling_ratios=[8, 5],
        codebook_size=16, codebook_dim=16, num_lstm_layers=1, num_residual_layers=1,
    )  # fmt: skip


def musicgen(folder: Path) -> None:
    config = MusicgenConfig(
        text_encoder=T5Config(
            vocab_size=260, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, pad_token_id=1, eos_token_id=2
        ).to_dict(),
        audio_encoder=_encodec().to_dict(),
        decoder={
            "model_type": "musicgen_decoder", "vocab_size": 16, "num_codebooks": 4, "hidden_size": 16,
            "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 32, "pad_token_id": 16, "bos_token_id": 16,
        },
    )  # fmt: skip
    model = _spread(MusicgenForConditionalGeneration(config), 13)
    model.generation_config = GenerationConfig(
        max_length=24, do_sample=True, guidance_scale=3.0, bos_token_id=16, pad_token_id=16, decoder_start_token_id=16
    )
    model.save_pretrained(folder)
    _letters_tokenizer(folder)


def speecht5(folder: Path) -> None:
    """With its vocoder in a folder of its own within the model's."""
    config = SpeechT5Config(
        vocab_size=260, hidden_size=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=32,
        decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=32, num_mel_bins=8, speech_decoder_prenet_units=8,
        speech_decoder_postnet_units=8, speech_decoder_postnet_layers=1, speaker_embedding_dim=4, max_text_positions=64,
        max_speech_positions=64, conv_dim=(8,), conv_kernel=(4,), conv_stride=(2,), reduction_factor=2,
    )  # fmt: skip
    _spread(SpeechT5ForTextToSpeech(config), 14, 0.3).save_pretrained(folder)
    _letters_tokenizer(folder)
    speecht5_vocoder(folder / "vocoder")


def speecht5_vocoder(folder: Path) -> None:
    config = SpeechT5HifiGanConfig(
        model_in_dim=8, upsample_initial_channel=8, upsample_rates=[4, 4], upsample_kernel_sizes=[8, 8],
        resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 3]],
    )  # fmt: skip
    _spread(SpeechT5HifiGan(config), 15, 0.2).save_pretrained(folder)


def bark(folder: Path) -> None:
    """Three decoders one after the other, then Encodec."""
    sizes: dict[str, Any] = {"num_layers": 1, "num_heads": 2, "hidden_size": 16, "block_size": 128, "bias": False}
    config = BarkConfig(
        semantic_config=BarkSemanticConfig(**sizes, input_vocab_size=400, output_vocab_size=320).to_dict(),
        coarse_acoustics_config=BarkCoarseConfig(**sizes, input_vocab_size=400, output_vocab_size=400).to_dict(),
        fine_acoustics_config=BarkFineConfig(
            **sizes, input_vocab_size=17, output_vocab_size=17, n_codes_total=4, n_codes_given=1
        ).to_dict(),
        codec_config=_encodec().to_dict(),
    )
    _spread(BarkModel(config), 16).save_pretrained(folder)


# Zero-shot


def clap(folder: Path) -> None:
    """As clap-htsat-unfused: a random second of longer sounds is listened to."""
    config = ClapConfig(
        text_config={
            "vocab_size": 260, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 32, "max_position_embeddings": 130, "projection_dim": 16,
        },
        audio_config={
            "window_size": 4, "num_mel_bins": 16, "spec_size": 64, "patch_size": 4, "patch_stride": [4, 4],
            "hidden_size": 16, "patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [2, 2],
            "projection_dim": 16, "num_hidden_layers": 2, "enable_fusion": False,
        },
        projection_dim=16,
    )  # fmt: skip
    _spread(ClapModel(config), 17).save_pretrained(folder)
    _letters_tokenizer(folder)
    ClapFeatureExtractor(
        feature_size=16, sampling_rate=16_000, hop_length=160, fft_window_size=400, max_length_s=1,
        truncation="rand_trunc", padding="repeatpad", frequency_max=8000,
    ).save_pretrained(folder)  # fmt: skip


BUILDERS: dict[str, Callable[[Path], None]] = {
    "wav2vec2-classifier": wav2vec2_classifier,
    "wav2vec2-masked-classifier": wav2vec2_masked_classifier,
    "ast-classifier": ast_classifier,
    "whisper-classifier": whisper_classifier,
    "wav2vec2-ctc": wav2vec2_ctc,
    "wav2vec2-masked-ctc": wav2vec2_masked_ctc,
    "hubert-ctc": hubert_ctc,
    "wavlm-ctc": wavlm_ctc,
    "whisper": whisper,
    "speech-to-text": speech_to_text,
    "speech-encoder-decoder": speech_encoder_decoder,
    "vits": vits,
    "musicgen": musicgen,
    "speecht5": speecht5,
    "clap": clap,
}
_CLASSIFIERS = ("wav2vec2-classifier", "wav2vec2-masked-classifier", "ast-classifier", "whisper-classifier")
_SYNTHESIZERS = ("vits", "musicgen", "speecht5")
TASKS: dict[str, str] = {
    **{
        name: "automatic-speech-recognition" for name in BUILDERS if name not in (*_CLASSIFIERS, *_SYNTHESIZERS, "clap")
    },
    **dict.fromkeys(_CLASSIFIERS, "audio-classification"),
    **dict.fromkeys(_SYNTHESIZERS, "text-to-audio"),
    "clap": "zero-shot-audio-classification",
}
