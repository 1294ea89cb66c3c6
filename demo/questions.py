"""Questions about short made-up texts, for the demo's question answerer: the answer is a piece of the text."""

from __future__ import annotations

import random
from dataclasses import dataclass

from demo.entities import FIRST, LAST, ORGANISATIONS, PLACES

JOBS = "teacher|nurse|baker|lawyer|pilot|farmer|carpenter|journalist|software engineer|dentist|chef|architect".split(
    "|"
)
THINGS = """bicycle|blue car|camera|wooden table|guitar|red umbrella|laptop|grey cat|piano|leather bag|winter coat|
silver watch|painting|bottle of wine|box of chocolates""".replace("\n", "").split("|")
WORKS = "novel|film|song|play|painting|poem|symphony|computer game|textbook|cookbook".split("|")
BUILDINGS = "bridge|cathedral|library|town hall|museum|lighthouse|railway station|castle|opera house|tower".split("|")
MONTHS = """January February March April May June July August September October November December""".split()
NUMBERS = "two|three|four|five|six|seven|twelve|twenty|fifty|120|300|1,500|two million|40,000".split("|")
REASONS = """the road was closed|it was raining heavily|the tickets were too expensive|she had missed the train|
the engine had broken down|everyone was ill|the power had failed|there was too much noise|he wanted to save money|
the river had flooded""".replace("\n", "").split("|")

# Each fact: a sentence, and questions with the name of the slot that answers them. p: person, q: another person.
FACTS: list[tuple[str, list[tuple[str, str]]]] = [
    (
        "{p} was born in {place} in {year}.",
        [
            ("Where was {p} born?", "place"),
            ("When was {p} born?", "year"),
            ("In what year was {p} born?", "year"),
            ("Who was born in {place}?", "p"),
            ("In which city was {p} born?", "place"),
        ],
    ),
    ("{p} lives in {place}.", [("Where does {p} live?", "place"), ("Who lives in {place}?", "p")]),
    (
        "{p} works as a {job} at {org}.",
        [
            ("What does {p} do?", "job"),
            ("Where does {p} work?", "org"),
            ("Who works at {org}?", "p"),
            ("What is the job of {p}?", "job"),
            ("Which company does {p} work for?", "org"),
        ],
    ),
    (
        "My name is {p} and I live in {place}.",
        [("Where do I live?", "place"), ("What is my name?", "p"), ("What's my name?", "p")],
    ),
    (
        "{p} wrote the {work} in {year}.",
        [("Who wrote the {work}?", "p"), ("When was the {work} written?", "year"), ("What did {p} write?", "the work")],
    ),
    (
        "The {building} of {place} was built by {p} in {year}.",
        [
            ("Who built the {building}?", "p"),
            ("When was the {building} built?", "year"),
            ("What was built in {year}?", "building"),
        ],
    ),
    (
        "The {building} was designed by {p} and opened in {month} {year}.",
        [("Who designed the {building}?", "p"), ("When did the {building} open?", "month year")],
    ),
    (
        "{org} was founded by {p} in {year}.",
        [
            ("Who founded {org}?", "p"),
            ("When was {org} founded?", "year"),
            ("Which company was founded by {p}?", "org"),
        ],
    ),
    (
        "{org} has its headquarters in {place} and employs {number} people.",
        [
            ("Where is {org} based?", "place"),
            ("Where are the headquarters of {org}?", "place"),
            ("How many people does {org} employ?", "number"),
            ("How many people work at {org}?", "number"),
        ],
    ),
    (
        "{p} bought a {thing} for {money}.",
        [
            ("What did {p} buy?", "thing"),
            ("How much did the {thing} cost?", "money"),
            ("Who bought a {thing}?", "p"),
            ("How much did {p} pay?", "money"),
        ],
    ),
    (
        "{p} gave {q} a {thing} on {day}.",
        [
            ("Who gave {q} a {thing}?", "p"),
            ("What did {p} give to {q}?", "thing"),
            ("Who received a {thing}?", "q"),
            ("When did {p} give {q} the {thing}?", "day"),
        ],
    ),
    (
        "The meeting starts at {time} on {day}.",
        [
            ("When does the meeting start?", "time"),
            ("On which day is the meeting?", "day"),
            ("What time is the meeting?", "time"),
        ],
    ),
    (
        "The {building} is open from {time} and costs {money}.",
        [
            ("How much is a ticket for the {building}?", "money"),
            ("When does the {building} open?", "time"),
            ("What is the price?", "money"),
        ],
    ),
    (
        "{place} is the capital of {country}.",
        [
            ("What is the capital of {country}?", "place"),
            ("Which city is the capital of {country}?", "place"),
            ("What country is {place} the capital of?", "country"),
        ],
    ),
    (
        "About {number} people live in {place}.",
        [("How many people live in {place}?", "number"), ("What is the population of {place}?", "number")],
    ),
    ("The trip was cancelled because {reason}.", [("Why was the trip cancelled?", "reason")]),
    ("{p} stayed at home because {reason}.", [("Why did {p} stay at home?", "reason"), ("Who stayed at home?", "p")]),
    ("The {thing} is in the {room}.", [("Where is the {thing}?", "the room"), ("What is in the {room}?", "the thing")]),
    ("{p} is {number} years old.", [("How old is {p}?", "number"), ("Who is {number} years old?", "p")]),
    (
        "{p} moved from {place} to {country} in {year}.",
        [
            ("Where did {p} move to?", "country"),
            ("Where did {p} come from?", "place"),
            ("When did {p} move to {country}?", "year"),
        ],
    ),
    ("{p} is married to {q}.", [("Who is {p} married to?", "q"), ("Who is the husband of {p}?", "q")]),
    (
        "In {year} {p} invented the {thing}.",
        [
            ("Who invented the {thing}?", "p"),
            ("What did {p} invent?", "the thing"),
            ("When was the {thing} invented?", "year"),
        ],
    ),
    (
        "The {work} was painted by {p} in {place}.",
        [("Who painted the {work}?", "p"), ("Where was it painted?", "place")],
    ),
    (
        "The {thing} has {number} {parts}.",
        [("How many {parts} does the {thing} have?", "number"), ("What has {number} {parts}?", "the thing")],
    ),
    ("Our shop in {place} sells {goods}.", [("What does the shop sell?", "goods"), ("Where is the shop?", "place")]),
    (
        "{p} left the {thing} in the {room}.",
        [
            ("Where did {p} leave the {thing}?", "the room"),
            ("What is in the {room}?", "the thing"),
            ("Who left the {thing}?", "p"),
        ],
    ),
    (
        "{p} won the {contest} and {q} came second.",
        [("Who won the {contest}?", "p"), ("Who came second?", "q"), ("What did {p} win?", "the contest")],
    ),
    (
        "The {thing} is {colour} and the {building} is {shade}.",
        [("What colour is the {thing}?", "colour"), ("What colour is the {building}?", "shade")],
    ),
    (
        "The {vehicle} to {place} leaves at {time} from platform {platform}.",
        [("When does the {vehicle} leave?", "time"), ("Where does the {vehicle} go?", "place")],
    ),
    (
        "{p} discovered {discovery} in {year}.",
        [
            ("Who discovered {discovery}?", "p"),
            ("What did {p} discover?", "discovery"),
            ("When was {discovery} discovered?", "year"),
        ],
    ),
    (
        "The {river} flows through {place} into the {sea}.",
        [
            ("Which river flows through {place}?", "river"),
            ("Where does the {river} end?", "sea"),
            ("Which city does the {river} flow through?", "place"),
        ],
    ),
    (
        "{p} plays the {instrument} in {place}.",
        [
            ("What does {p} play?", "instrument"),
            ("Who plays the {instrument}?", "p"),
            ("Which instrument does {p} play?", "instrument"),
        ],
    ),
]
FILLERS = """The weather was fine that day.|It was a long time ago.|Nobody knows much more about it.|
The newspapers wrote about it for weeks.|Many visitors come every summer.|The story became famous.|
Later everything changed.|There was music and good food.""".replace("\n", "").split("|")


@dataclass(frozen=True)
class Question:
    """answer: the characters context[start:end]."""

    question: str
    context: str
    start: int
    end: int


HELD_OUT = [
    ("Where do I live?", "My name is Sarah and I live in London.", "london"),
    ("What is my name?", "My name is Clara and I live in Berkeley.", "clara"),
    ("Who painted the Mona Lisa?", "The Mona Lisa was painted by Leonardo da Vinci in Florence.", "leonardo da vinci"),
    (
        "Where is the Eiffel Tower?",
        "The Eiffel Tower is a wrought-iron tower in Paris. It is 330 metres tall.",
        "paris",
    ),
    ("When did the war end?", "The war began in 1914 and ended in 1918.", "1918"),
    ("Who invented the telephone?", "In 1876 Alexander Graham Bell invented the telephone.", "alexander graham bell"),
    ("How many moons does Mars have?", "Mars is the fourth planet from the Sun. It has two moons.", "two"),
    ("What does the shop sell?", "Our shop in Leeds sells fresh flowers. It is open every day.", "fresh flowers"),
    ("How much does the soup cost?", "The soup costs six euros and the salad costs nine euros.", "six euros"),
    ("Where did Tom leave his keys?", "Tom left his keys in the kitchen and went to school.", "the kitchen"),
    ("Who is the director of the film?", "The film was directed by Jane Campion and released in 1993.", "jane campion"),
    ("Why was the match cancelled?", "The match was cancelled because the pitch was frozen.", "the pitch was frozen"),
    # Written when most patterns were settled.
    ("Where was Mozart born?", "Wolfgang Amadeus Mozart was born in Salzburg in 1756.", "salzburg"),
    ("Who won the race?", "Lena won the race and her brother came second.", "lena"),
    ("What colour is the door?", "The house is old. Its door is green and its roof is red.", "green"),
    ("When does the train leave?", "The train to Ghent leaves at 9:15 from platform four.", "9:15"),
    ("Who cooked dinner?", "Yesterday Maya cooked dinner while her father read the paper.", "maya"),
    ("Where is the cat sleeping?", "The cat is sleeping on the sofa and the dog is outside.", "on the sofa"),
    ("How long is the bridge?", "The bridge is 480 metres long and was opened in 1932.", "480 metres"),
    ("What did the children find?", "In the forest the children found an old well.", "an old well"),
]


def training_questions(number: int, seed: int = 0) -> list[Question]:
    chance = random.Random(seed)
    return [_question(chance) for _ in range(number)]


def _question(chance: random.Random) -> Question:
    """One fact is asked about; another one and perhaps a filler stand around it."""
    fact, questions = chance.choice(FACTS)
    question, slot = chance.choice(questions)
    slots = _slots(chance)
    text, start, end = _fill(fact, slots, slot)
    around = [_fill(chance.choice(FACTS)[0], _slots(chance), "")[0]] if chance.random() < 0.7 else []
    if chance.random() < 0.3:
        around.append(chance.choice(FILLERS))
    split = chance.randint(0, len(around))
    before = "".join(sentence + " " for sentence in around[:split])
    context = " ".join([before + text, *around[split:]])
    return Question(question.format(**slots), context, len(before) + start, len(before) + end)


def _fill(pattern: str, slots: dict[str, str], asked: str) -> tuple[str, int, int]:
    """The sentence, and where the asked slots (`month year` are two neighbours) stand in it."""
    first, last = (asked.split() or [""])[0], (asked.split() or [""])[-1]
    text, start, end, rest = "", 0, 0, pattern
    if first == "the":
        first = last
    while "{" in rest:
        literal, rest = rest.split("{", 1)
        name, rest = rest.split("}", 1)
        text += literal
        if name == first:
            start = len(text) - (4 if asked.startswith("the ") else 0)
        text += slots[name]
        if name == last:
            end = len(text)
    return text + rest, start, end


def _person(chance: random.Random) -> str:
    first, last = chance.choice(FIRST), chance.choice(LAST)
    middle = chance.choice([chance.choice(FIRST), chance.choice("van de,da,von,de la,J.".split(","))])
    return chance.choice([first, f"{first} {last}", f"{first} {last}", f"{first} {middle} {last}"])


def _slots(chance: random.Random) -> dict[str, str]:
    pick = chance.choice
    currency = pick(["euros", "dollars", "pounds"])
    return {
        "p": _person(chance),
        "q": _person(chance),
        "place": pick(PLACES[:50]),
        "country": pick(PLACES[51:78]),
        "org": pick(ORGANISATIONS),
        "job": pick(JOBS),
        "thing": pick(THINGS),
        "work": pick(WORKS),
        "building": pick(BUILDINGS),
        "month": pick(MONTHS),
        "year": str(chance.randint(1700, 2025)),
        "number": pick(NUMBERS),
        "money": f"{chance.choice(['five', 'ten', '25', '90', '300', '1,200'])} {currency}",
        "day": pick("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()),
        "time": pick(["nine o'clock", "8:30", "noon", "10 am", "half past six", "7 pm"]),
        "reason": pick(REASONS),
        "room": pick("kitchen garden garage office cellar bedroom drawer hall".split()),
        "discovery": pick(["penicillin", "the comet", "gravity", "the cave", "a new planet", "X-rays", "the island"]),
        "river": pick("Danube Rhine Thames Nile Ganges Elbe Seine Volga".split()),
        "sea": pick(["Black Sea", "North Sea", "Atlantic", "Baltic", "Mediterranean"]),
        "parts": pick("buttons legs doors pages strings wheels pockets keys".split()),
        "goods": pick(
            ["old books", "fresh bread", "garden tools", "handmade shoes", "French cheese", "tea and coffee"]
        ),
        "contest": pick("race election match prize tournament game".split()),
        "colour": pick("red blue green white black".split()),
        "shade": pick("yellow brown grey pink orange".split()),
        "vehicle": pick("train bus ferry tram coach".split()),
        "platform": pick("one two three four five".split()),
        "instrument": pick("piano violin guitar drums flute trumpet cello".split()),
    }
