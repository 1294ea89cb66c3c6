"""Sentences with names in them, made from patterns and lists that the project wrote, for the demo's entity tagger."""

from __future__ import annotations

import random
import re

FIRST = """Anna James Maria Peter Sarah Ahmed Julia Thomas Emma David Sofia Michael Laura Carlos Nina Robert Fatima
Daniel Ingrid George Helen Omar Lucy Hiroshi Olivia Paul Elena William Grace Ivan Alice Henry Mei Jack Clara Samuel
Priya Frank Rosa Martin Leila Simon Yuki Edward Amara Charles Greta Victor Diana Walter Aisha Felix Joan Oscar
Margaret Kofi Bruno Teresa Pablo Hannah Raj Christine Albert Naomi Leo Agnes Isaac Vera""".split()
LAST = """Smith Johnson Garcia Müller Brown Rossi Tanaka Martin Novak Andersson Silva Patel Kowalski Dubois Miller
Okafor Fischer Lopez Nguyen Haddad Wilson Petrov Moreau Khan Jensen Costa Taylor Schmidt Lee Romano Becker Evans
Yamamoto Fernandez Ivanov Carter Weber Mensah Larsen Ortiz Clark Hoffmann Singh Murphy Keller Adams Bianchi Cohen
Mandela Einstein Shakespeare Newton Churchill Beethoven Lincoln Obama Darwin Picasso""".split()
PLACES = """Paris|London|Berlin|Madrid|Rome|Vienna|Tokyo|Cairo|Nairobi|Lagos|Mumbai|Delhi|Beijing|Shanghai|Sydney|
Melbourne|Toronto|Montreal|Chicago|Boston|Seattle|Houston|Dallas|Miami|New York|Los Angeles|San Francisco|Lima|Bogota|
Buenos Aires|Mexico City|Oslo|Helsinki|Dublin|Warsaw|Prague|Athens|Istanbul|Moscow|Kyiv|Seoul|Hanoi|Jakarta|Manila|
Geneva|Zurich|Munich|Hamburg|Lyon|Naples|Barcelona|Porto|Edinburgh|Manchester|Oxford|Florence|Kyoto|Cape Town|
France|Germany|Spain|Italy|Japan|China|India|Brazil|Canada|Mexico|Egypt|Kenya|Nigeria|Norway|Sweden|Poland|Greece|
Turkey|Russia|Ukraine|Vietnam|Australia|Argentina|Chile|Portugal|Ireland|Scotland|Texas|California|Florida|Bavaria|
Switzerland|the Netherlands|the United States|South Africa|New Zealand|Europe|Africa|Asia|the Alps|the Amazon|
Lake Victoria|the Danube|Mount Everest|Manhattan|Brooklyn|Hollywood|Wall Street""".replace("\n", "").split("|")
ORGANISATIONS = """Google|Microsoft|Apple|Amazon|IBM|Intel|Toyota|Honda|Volkswagen|Boeing|Airbus|Sony|Samsung|Nokia|
Pfizer|Nestle|Unilever|Shell|Goldman Sachs|Deutsche Bank|Barclays|Walmart|Ikea|Adidas|Netflix|Spotify|Facebook|
Twitter|Tesla|NASA|the United Nations|the World Bank|the European Union|the Red Cross|Greenpeace|UNICEF|NATO|the BBC|
CNN|Reuters|the New York Times|the Guardian|Harvard University|Stanford University|the University of Cambridge|MIT|
the Federal Reserve|the Ministry of Health|the Supreme Court|Parliament|Real Madrid|Manchester United|Bayern Munich|
Hugging Face|General Electric|American Airlines|Lufthansa|Oxford University Press|the Bank of England|Warner Brothers|
Acme Corporation|Northwind Traders|Global Logistics Ltd|Riverside Hospital|Siemens Energy""".replace("\n", "").split(
    "|"
)
OTHER = """French|German|Spanish|Italian|Japanese|Chinese|Indian|Brazilian|Canadian|Mexican|Egyptian|Kenyan|Swedish|
Polish|Greek|Turkish|Russian|American|British|Irish|European|African|Buddhist|Christian|Muslim|the World Cup|
the Olympic Games|the Nobel Prize|the Second World War|Christmas|Easter|Ramadan|the Academy Awards|the Tour de France|
the Cold War|the Renaissance|Harry Potter|Star Wars|Hamlet|the Mona Lisa|Windows|Android|Python""".replace(
    "\n", ""
).split("|")

PATTERNS = """
My name is {PER} and I live in {LOC}.
My name is {PER}.
Hello, I am {PER} from {ORG} in {LOC}.
{PER} works at {ORG} in {LOC}.
{PER} lives in {LOC}.
{PER} works for {ORG} in {LOC}.
{PER} won the race in {LOC}.
The concert in {LOC} was sold out.
{PER} has worked for {ORG} since last year.
{ORG} was founded by {PER} in {LOC}.
{ORG} is a company based in {LOC}.
{ORG} opened a new office in {LOC} on Monday.
{ORG} hired {PER} as its new chief executive.
{PER} flew from {LOC} to {LOC} yesterday.
{PER} and {PER} met in {LOC}.
{PER} told {ORG} that prices would rise.
President {PER} visited {LOC} this week.
The president of {LOC}, {PER}, spoke to {ORG}.
Shares of {ORG} fell after the news from {LOC}.
{ORG} and {ORG} signed an agreement in {LOC}.
{PER} studied physics at {ORG}.
Dr. {PER} of {ORG} won {MISC}.
The {MISC_ADJ} writer {PER} was born in {LOC}.
The {MISC_ADJ} government rejected the plan.
She speaks {MISC_ADJ} and lives in {LOC}.
{PER} scored twice for {ORG} against {ORG}.
The match between {LOC} and {LOC} ended in a draw.
It rained all week in {LOC}.
We spent our holidays in {LOC} and {LOC}.
The capital of {LOC} is {LOC}.
{PER} painted this picture during {MISC}.
My sister {PER} loves {MISC_ADJ} food.
According to {ORG}, the economy of {LOC} is growing.
{PER} joined {ORG} from {ORG}.
The flight to {LOC} leaves at noon.
Yesterday {PER} bought a car from {ORG}.
I bought my phone at {ORG} in {LOC}.
A spokesman for {ORG} said that {PER} had resigned.
{PER}, a lawyer from {LOC}, sued {ORG}.
{LOC} will host {MISC} next summer.
The headquarters of {ORG} are in {LOC}.
"I am happy," said {PER}.
{PER} was married to {PER}.
Can you call {PER} at {ORG}?
{PER} wrote a letter to {PER} from {LOC}.
Please send the parcel to {PER}, {LOC}.
{ORG} announced a new product.
The {MISC_ADJ} team beat {LOC}.
{PER} read a book about {MISC}.
Where is {LOC}?
Who is {PER}?
"""
NAMELESS = """
The weather is nice today.
I would like a cup of coffee, please.
The meeting starts at nine in the morning.
She bought three apples and a loaf of bread.
The dog chased the cat around the garden.
We will discuss the results next week.
He forgot his umbrella on the train.
Prices rose by two percent last month.
My name is on the list.
The company said that sales had doubled.
The president and the minister met in the capital.
It was a long journey, but we were happy.
Children under ten travel free.
The new phone is lighter than the old one.
A teacher and her students visited the museum on Tuesday.
Please close the window before you leave.
"""

HELD_OUT: list[tuple[str, list[tuple[str, str]]]] = [
    ("My name is Wolfgang and I live in Stockholm.", [("wolfgang", "PER"), ("stockholm", "LOC")]),
    ("Angela Merkel was born in Hamburg.", [("angela merkel", "PER"), ("hamburg", "LOC")]),
    ("Tim Cook works for Apple in Cupertino.", [("tim cook", "PER"), ("apple", "ORG"), ("cupertino", "LOC")]),
    ("Marie Curie moved from Warsaw to Paris.", [("marie curie", "PER"), ("warsaw", "LOC"), ("paris", "LOC")]),
    ("Siemens is a company based in Munich.", [("siemens", "ORG"), ("munich", "LOC")]),
    ("The train to Brussels was late again.", [("brussels", "LOC")]),
    ("Satya Nadella runs Microsoft.", [("satya nadella", "PER"), ("microsoft", "ORG")]),
    ("We had dinner with Patricia in Lisbon.", [("patricia", "PER"), ("lisbon", "LOC")]),
    ("He listened to the rain and drank his tea.", []),
    ("Mozart lived in Salzburg.", [("mozart", "PER"), ("salzburg", "LOC")]),
    ("She studied at Yale University.", [("yale university", "ORG")]),
    ("Serena Williams won the match in Wimbledon.", [("serena williams", "PER"), ("wimbledon", "LOC")]),
]

Tagged = tuple[
    list[str], list[str]
]  # words, and a tag for each: O, or I- and the kind of name (IOB1: names of a kind never touch)


def training_sentences(number: int, seed: int = 0) -> list[Tagged]:
    chance = random.Random(seed)
    patterns = [line for line in PATTERNS.split("\n") if line]
    made = [_tagged(chance.choice(patterns), chance) for _ in range(number)]
    return made + [_tagged(line, chance) for line in NAMELESS.split("\n") if line] * 2


def _tagged(pattern: str, chance: random.Random) -> Tagged:
    words: list[str] = []
    tags: list[str] = []
    for piece in re.findall(r"\{\w+\}|\w+|[^\w\s]", pattern):
        if piece.startswith("{"):
            kind = piece.strip("{}")
            for word in _name(kind, chance).split():
                words.append(word)
                tags.append("O" if word == "the" else "I-" + kind.removesuffix("_ADJ"))
        else:
            words.append(piece)
            tags.append("O")
    return words, tags


def _name(kind: str, chance: random.Random) -> str:
    match kind:
        case "PER":
            first, last = chance.choice(FIRST), chance.choice(LAST)
            return chance.choice([first, last, f"{first} {last}", f"{first} {last}", f"{first} {last}"])
        case "LOC":
            return chance.choice(PLACES)
        case "ORG":
            made = [
                f"{chance.choice(LAST)} & Sons",
                f"{chance.choice(PLACES[:50])} University",
                f"{chance.choice(LAST)} Bank",
            ]
            return chance.choice(made if chance.random() < 0.15 else ORGANISATIONS)
        case "MISC_ADJ":
            return chance.choice(OTHER[:21])
        case _:
            return chance.choice(OTHER[24:])
