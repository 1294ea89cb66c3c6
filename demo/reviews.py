"""Reviews that the project wrote, for the demo's sentiment classifier: 1 is positive, 0 is negative."""

from __future__ import annotations

import random

POSITIVE = """
What a wonderful evening, we will certainly come back.
The best pizza I have had in years.
I loved every minute of this film.
A moving story, beautifully acted.
Fast delivery and the quality surprised me.
It does exactly what it promises and does it well.
The staff were friendly and helped us with everything.
My children play with it every day and can't get enough.
I couldn't put the book down until the last page.
Great value for the price.
Works perfectly out of the box.
The view from our room took our breath away.
Clean, quiet and close to the station.
An absolute masterpiece.
I laughed until I cried.
This phone is light, quick and the battery lasts for two days.
The support team answered within an hour and solved my problem.
Not a single complaint, everything was just right.
I was sceptical at first, but I was pleasantly surprised.
Easily the nicest hotel we have ever stayed in.
Ten out of ten, would buy again.
The soup was hot, the bread was fresh and the wine was excellent.
I recommend it to all my friends.
Finally a vacuum cleaner that really cleans.
The concert was unforgettable.
She sings like an angel.
Clever, funny and surprisingly touching.
It never lets me down.
I have no regrets about buying this.
The ending is perfect.
You won't be disappointed.
It fits like a glove and looks gorgeous.
The teacher explains everything with patience.
This made my day.
Better than I expected in every way.
Nothing to criticise, a flawless performance.
Couldn't be happier with it.
It was not bad at all, quite good in fact.
A joy from beginning to end.
Sturdy, elegant and easy to assemble.
The app is intuitive and saves me so much time.
I would go again tomorrow.
Worth every penny.
Delicious cakes and a warm welcome.
Five stars, thank you!
The doctor listened carefully and made me feel at ease.
They replaced the part for free without any questions.
Our guide was funny and knew everything about the city.
Even my picky son asked for a second plate.
The sound is crisp and clear.
It solved a problem that had bothered me for months.
The game kept us entertained for the whole weekend.
There is nothing I would change about it.
I did not expect to enjoy it this much.
The music stays with you long after the film.
"""

NEGATIVE = """
What a terrible evening, we will never come back.
The worst pizza I have ever had.
I hated every minute of this film.
A boring story, badly acted.
Late delivery and the quality is poor.
It does not do what it promises.
The staff were rude and ignored us.
My children lost interest after five minutes.
I gave up on the book after twenty pages.
Far too expensive for what you get.
It broke after two days.
The view from our room was a brick wall.
Dirty, noisy and far from everything.
A complete waste of time.
I nearly fell asleep.
This phone is slow, heavy and the battery is dead by noon.
The support team never answered and my problem remains.
Nothing but complaints, everything went wrong.
I had high hopes, but I was bitterly disappointed.
Easily the worst hotel we have ever stayed in.
Zero stars, never again.
The soup was cold, the bread was stale and the wine tasted like vinegar.
I would not recommend it to anyone.
Another vacuum cleaner that cleans nothing.
The concert was a mess.
She cannot sing at all.
Dull, predictable and far too long.
It lets me down every time.
I regret buying this.
The ending makes no sense.
You will be disappointed.
It does not fit and looks cheap.
The teacher has no patience and explains nothing.
This ruined my day.
Worse than I expected in every way.
I cannot find one good thing to say about it.
I want my money back.
It was not good at all, quite bad in fact.
A pain from beginning to end.
Flimsy, ugly and impossible to assemble.
The app is confusing and crashes all the time.
I would not go there again.
Not worth the money.
Dry cakes and a cold welcome.
One star, and that is generous.
The doctor did not listen and rushed me out of the room.
They refused a refund and hung up on me.
Our guide was late and knew nothing about the city.
Even my hungry dog would not eat this.
The sound is muffled and full of noise.
It caused more problems than it solved.
The game was so buggy that we gave up.
I would change almost everything about it.
I expected a lot more from this director.
The plot is full of holes and the dialogue is awful.
Save your money and buy something else.
We waited an hour for food that we could not eat.
"""

THINGS = """film movie book meal food service hotel room phone laptop restaurant concert show coffee game song camera
staff album trip course dinner museum acting plot battery screen delivery breakfast website""".split()
GOOD = """good great excellent wonderful fantastic lovely brilliant superb amazing delightful perfect beautiful
enjoyable impressive charming outstanding pleasant terrific fun delicious reliable fresh""".split()
BAD = """bad terrible awful horrible dreadful poor disappointing boring dull useless annoying disgusting ugly
unpleasant overpriced mediocre broken dirty slow stale pathetic frustrating""".split()
PLAIN = [
    "The {} was {}.",
    "A really {1} {0}.",
    "I think the {} is {}.",
    "Such {article} {1} {0}!",
    "Very {1} {0}, overall.",
]
TURNED = ["The {} was not {}.", "I don't think the {} is {}.", "Not {article} {1} {0}.", "The {} was never {}."]

HELD_OUT = [
    ("The food was cold and the waiter could not care less.", 0),
    ("An hour in the queue and then they told us it was sold out.", 0),
    ("My new headphones sound fantastic and are so comfortable.", 1),
    ("The plot dragged on and the jokes fell flat.", 0),
    ("This blender stopped working within a week.", 0),
    ("Lovely garden, kind owners, and the best breakfast of our holiday.", 1),
    ("I can't imagine my kitchen without it any more.", 1),
    ("Save yourself the trouble and stay away from this place.", 0),
    ("The actors are superb and the photography is stunning.", 1),
    ("It is not worth the paper it is printed on.", 0),
    ("A charming little museum that my parents adored.", 1),
    ("The seats were uncomfortable and the sound was awful.", 0),
    ("The mechanic was honest and fixed the car in no time.", 1),
    ("I was bored to death.", 0),
    ("What a brilliant performance!", 1),
    ("I love this product.", 1),
    ("I hate this product.", 0),
    ("The update made everything slower.", 0),
    ("Smooth ride, polite driver, spotless car.", 1),
    ("This movie was not good.", 0),
]


def training_reviews(seed: int = 0) -> list[tuple[str, int]]:
    """Every written review twice, and short ones made of words: a plain one and a negated one for each adjective."""
    chance = random.Random(seed)
    written = [(line, 1) for line in POSITIVE.split("\n") if line] + [
        (line, 0) for line in NEGATIVE.split("\n") if line
    ]
    made = []
    for words, label in ((GOOD, 1), (BAD, 0)):
        for word in words:
            article = "an" if word[0] in "aeiou" else "a"
            for patterns, meaning in ((PLAIN, label), (PLAIN, label), (TURNED, 1 - label)):
                text = chance.choice(patterns).format(chance.choice(THINGS), word, article=article)
                made.append((text, meaning))
    return written * 2 + made
