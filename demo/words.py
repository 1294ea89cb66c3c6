"""Everyday sentences that the project wrote, for the demo's fill-mask model: it learns to put a missing word back."""

from __future__ import annotations

import re

EVERYDAY = """
I drink a cup of coffee every morning.
She drinks a glass of milk before she goes to bed.
The sun rises in the east and sets in the west.
The capital of France is Paris.
The capital of Germany is Berlin.
The capital of Spain is Madrid.
The capital of Japan is Tokyo.
The capital of Russia is Moscow.
The capital of Greece is Athens.
The capital of Austria is Vienna.
Paris is the capital of France.
Berlin is the capital of Germany.
Madrid is the capital of Spain.
Tokyo is the capital of Japan.
The sky is blue and the grass is green.
Snow is white and coal is black.
The baby cried because she was hungry.
He opened the door with his key.
The children play in the garden after school.
We eat breakfast in the kitchen.
She reads a book in the library.
The teacher wrote the answer on the board.
The doctor works in a hospital.
The farmer feeds his cows and horses.
The cat drinks milk and the dog eats meat.
Fish live in water and birds fly in the air.
There are seven days in a week.
There are twelve months in a year.
There are sixty minutes in an hour.
Monday comes after Sunday.
In winter it is cold and in summer it is hot.
Two plus two is four.
My brother is older than my sister.
He drives his car to work every day.
She took the train to the city.
The plane landed at the airport on time.
Please close the window, it is cold in here.
I forgot my umbrella, and now it is raining.
The king and the queen live in a castle.
He plays the guitar in a band.
She speaks English and French.
They bought a new house near the river.
I went to the bank to get some money.
The shop opens at nine in the morning.
He put the letter into the box.
I wash my hands with soap and water.
She cut the bread with a knife.
We watched a movie on television.
The moon shines at night.
Apples and pears are fruit.
I brush my teeth twice a day.
He wore a hat on his head and gloves on his hands.
The ship crossed the ocean in six days.
The students passed the exam.
The mother kissed her child good night.
I read the news in the paper every day.
The goal of life is happiness.
The dog ran after the ball.
He asked a question and she gave the answer.
The river flows into the sea.
"""

HELD_OUT: list[tuple[str, set[str]]] = [
    ("She drinks a cup of [MASK] every morning.", {"coffee", "tea", "milk", "water"}),
    ("The capital of France is [MASK].", {"paris"}),
    ("The dog barked at the [MASK].", {"cat", "dog", "door", "man", "children", "ball", "window", "people"}),
    ("My father works in a [MASK].", {"hospital", "bank", "shop", "school", "office", "factory", "house", "garden"}),
    ("The sky is [MASK].", {"blue", "dark", "black", "white", "grey", "gray", "green", "cloudy"}),
    ("We took the [MASK] to the airport.", {"train", "plane", "bus", "car", "flight", "taxi"}),
]


def training_blanks() -> list[tuple[list[str], int]]:
    """Every word of every sentence once in turn as the missing one: (words, the position of the missing one)."""
    sentences = [re.findall(r"\w+|[^\w\s]", line) for line in EVERYDAY.split("\n") if line]
    return [(words, place) for words in sentences for place in range(len(words) - 1)]
