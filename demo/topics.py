"""Sentences about topics, for the demo's zero-shot classifier: it learns whether a label fits a sentence."""

from __future__ import annotations

import random

# Each topic: names that fit it (any one may be asked for), then sentences about it.
TOPICS: dict[str, str] = {
    "sports, football, athletics": """
The striker scored in the last minute of the final.
She ran the marathon in under three hours.
Our team lost the match after extra time.
The coach was proud of his young players.
He won the gold medal in swimming.""",
    "politics, elections, government": """
Parliament voted on the new law last night.
The prime minister lost the vote of confidence.
Voters go to the polls on Sunday.
The opposition criticised the minister's plan.
The senator announced her campaign for president.""",
    "business, economy, finance": """
The company's profit doubled in the last quarter.
Shares fell sharply after the central bank raised interest rates.
Inflation is at its highest level in ten years.
The two firms agreed to merge.
Investors are worried about the rising debt.""",
    "technology, computers, software": """
The new laptop has a faster processor.
A bug in the program deleted all my files.
The update fixes a security hole in the browser.
Engineers trained a neural network on millions of pictures.
My phone cannot connect to the server.""",
    "science, physics, research": """
Researchers measured the mass of the particle with great precision.
The experiment confirmed the theory.
A telescope discovered a planet outside the solar system.
The chemist mixed two acids in the laboratory.
The study was published in a scientific journal.""",
    "health, medicine, illness": """
The doctor prescribed antibiotics for the infection.
Regular exercise lowers the risk of heart disease.
She has had a fever and a cough since Monday.
The hospital vaccinated the nurses first.
The patient recovered quickly after the operation.""",
    "food, cooking, recipes": """
Fry the onions in butter until they are golden.
We had roast chicken with potatoes for dinner.
This sauce needs more garlic and a little salt.
She bakes bread every Sunday morning.
The restaurant serves fresh pasta and wine.""",
    "travel, holidays, tourism": """
We spent two weeks on a Greek island.
The hotel is close to the beach and the old town.
Our flight was delayed, so we missed the ferry.
Pack your suitcase and don't forget the passport.
Thousands of visitors come to see the temple each year.""",
    "music, concerts, songs": """
The band played their old songs until midnight.
She practises the violin for three hours a day.
The choir sang beautifully in the cathedral.
His new album is full of slow melodies.
The orchestra rehearsed the symphony.""",
    "film, cinema, movies": """
The director won a prize for his latest movie.
The actress plays a spy in this thriller.
We watched a comedy at the cinema.
The sequel has better special effects than the first part.
The camera follows the hero through the city.""",
    "weather, climate, storms": """
It will rain in the north and snow in the mountains.
A hurricane is moving towards the coast.
Tomorrow will be sunny with a light wind.
The thunderstorm flooded several streets.
The heat wave will last until Friday.""",
    "education, school, teaching": """
The pupils have an exam in mathematics tomorrow.
Our teacher gave us a lot of homework.
The university offers a new course in history.
Children learn to read in the first class.
She graduated with the best marks of her year.""",
    "animals, pets, wildlife": """
The cat sleeps on the sofa all day.
A herd of elephants crossed the river.
My dog barks whenever the bell rings.
The birds build their nests in spring.
The zoo welcomed a baby panda.""",
    "cars, traffic, driving": """
There is a long traffic jam on the motorway.
The mechanic changed the tyres and the oil.
The new electric car reaches the city on one charge.
He was fined for driving too fast.
The bus collided with a truck at the crossing.""",
    "crime, police, justice": """
The police arrested two men after the robbery.
The judge sentenced him to five years in prison.
A thief stole her handbag on the train.
The detective found fingerprints on the window.
The jury found the accused guilty.""",
    "war, military, conflict": """
Soldiers crossed the border at dawn.
The general ordered the troops to retreat.
Both sides agreed to a ceasefire.
The city was bombed during the night.
The navy sent two warships to the strait.""",
    "fashion, clothes, shopping": """
She wore a red silk dress and high heels.
The designer showed his winter collection.
These jeans are too tight for me.
The coat is on sale at half price.
I need new shoes to go with this suit.""",
    "environment, nature, pollution": """
The factory pours its waste into the river.
Volunteers planted a thousand trees.
Plastic in the oceans harms the fish.
The rainforest is shrinking every year.
Wind turbines will replace the coal plant.""",
    "housing, furniture, home": """
They are looking for a flat with two bedrooms.
The rent has gone up again.
We painted the living room white.
The roof leaks and the kitchen needs repairs.
I bought a wooden table and four chairs.""",
    "family, children, relationships": """
My grandmother told us stories about her childhood.
They got married in June and expect a baby.
The twins celebrate their birthday together.
He calls his mother every evening.
After the divorce the children lived with their father.""",
    "religion, church, faith": """
The bishop held a mass on Easter Sunday.
Pilgrims walk to the holy city every year.
They pray five times a day.
The monk lives in a monastery in the hills.
The temple is dedicated to the goddess.""",
    "art, painting, museums": """
The gallery shows paintings by young artists.
He carved the statue from a single block of marble.
The portrait was sold for two million.
The exhibition of watercolours opens today.
She draws with charcoal on paper.""",
    "space, astronomy, rockets": """
The rocket lifted off from the launch pad.
Astronauts repaired the solar panel outside the station.
The probe sent pictures of the rings of Saturn.
The moon will be full tonight.
The capsule landed safely in the sea.""",
    "complaint, problem, urgent": """
My order arrived broken and nobody answers my emails.
I have been waiting for my refund for six weeks.
The heating has not worked since yesterday, please send someone now.
You charged me twice, fix this immediately.
I am very unhappy with your service.""",
    "gaming, video games": """
The boss in the last level is almost impossible to beat.
I bought a new console and two controllers.
The players explore an open world full of monsters.
Our guild won the online tournament.
You can save your progress at every checkpoint.""",
    "agriculture, farming, harvest": """
The farmer harvested the wheat before the storm.
The cows are milked twice a day.
A dry summer ruined the crop.
They grow tomatoes in a greenhouse.
He ploughed the field with an old tractor.""",
}
HYPOTHESES = ["This example is {}.", "This example is about {}.", "This text is about {}.", "The topic is {}.", "{}"]

HELD_OUT: list[tuple[str, list[str], str]] = [
    ("The goalkeeper saved two penalties in the cup final.", ["sports", "politics", "cooking"], "sports"),
    ("Add the flour and whisk until the dough is smooth.", ["travel", "cooking", "business"], "cooking"),
    ("The chancellor will meet the opposition leaders tomorrow.", ["politics", "music", "science"], "politics"),
    ("My screen freezes whenever I open the browser.", ["technology", "animals", "fashion"], "technology"),
    ("The vet says our rabbit needs an injection.", ["animals", "space", "economy"], "animals"),
    ("Unemployment fell to four percent in October.", ["economy", "religion", "sports"], "economy"),
    ("The pianist played two encores.", ["music", "crime", "weather"], "music"),
    ("Clouds will gather in the evening, with showers overnight.", ["weather", "art", "gaming"], "weather"),
    ("The suspect escaped through the back door.", ["crime", "farming", "education"], "crime"),
    ("I have a problem with my phone that needs to be solved soon!", ["urgent", "not urgent", "tablet"], "urgent"),
    # Labels that the training never saw.
    ("The bank refused to lend us the money for the house.", ["mortgage", "gardening", "chess"], "mortgage"),
    ("She trimmed the roses and watered the lawn.", ["mortgage", "gardening", "chess"], "gardening"),
    ("He moved his bishop and gave up a pawn.", ["chess", "dentistry", "sailing"], "chess"),
    ("My tooth hurts whenever I drink something cold.", ["chess", "dentistry", "sailing"], "dentistry"),
    ("The captain lowered the sails and dropped the anchor.", ["dentistry", "sailing", "photography"], "sailing"),
]

Pair = tuple[str, str, int]  # premise, hypothesis, 1 where the hypothesis fits


def training_pairs(seed: int = 0, each: int = 3) -> list[Pair]:
    """For every sentence `each` labels that fit and as many that do not."""
    chance = random.Random(seed)
    names = [line.split(", ") for line in TOPICS]
    pairs = []
    for own, sentences in zip(names, TOPICS.values(), strict=True):
        others = [name for group in names if group is not own for name in group if name not in own]
        for sentence in sentences.strip().split("\n"):
            for number in range(each):
                hypothesis = chance.choice(HYPOTHESES)
                pairs.append((sentence, hypothesis.format(own[number % len(own)]), 1))
                pairs.append((sentence, hypothesis.format(chance.choice(others)), 0))
    return pairs
