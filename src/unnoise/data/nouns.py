"""The things that scenes are made of: which emoji they are, what they are called alone and in numbers, and
which are never shown in training.

Chosen from the animals, plants, food, vehicles and other objects of emojibase: what can be counted, has no
colour in its name and is one piece.
"""

from __future__ import annotations

import unicodedata

# label of the emoji, and after "=" the word for it where that is another
_ANIMALS = """monkey, gorilla, orangutan, dog, poodle, wolf, fox, raccoon, cat, lion, tiger, leopard, horse,
unicorn, moose, donkey, zebra, deer, bison, ox, cow, pig, boar, ram, ewe=sheep, goat, camel, llama, giraffe,
elephant, mammoth, rhinoceros, hippopotamus, mouse, rat, hamster, rabbit, chipmunk, beaver, hedgehog, bat,
bear, koala, panda, sloth, otter, skunk, kangaroo, badger, turkey, chicken, rooster, baby chick=chick, bird,
penguin, dove, eagle, duck, swan, owl, dodo, feather, flamingo, peacock, parrot, goose, frog, crocodile,
turtle, lizard, snake, dragon, sauropod=dinosaur, T-Rex, whale, dolphin, seal, fish, tropical fish, blowfish,
shark, octopus, spiral shell, jellyfish, crab, lobster, shrimp, squid, snail, butterfly, bug=caterpillar,
ant, honeybee=bee, beetle, lady beetle=ladybug, cricket, cockroach, spider, scorpion, mosquito, fly, worm"""
_PLANTS = """bouquet, rose, hibiscus, sunflower, blossom=flower, tulip, seedling, potted plant, evergreen
tree=pine tree, deciduous tree=tree, palm tree, cactus, shamrock, maple leaf, mushroom, Christmas tree"""
_FOOD = """melon, watermelon, tangerine, lemon, lime, banana, pineapple, mango, red apple=apple, pear, peach,
strawberry, kiwi fruit=kiwi, tomato, coconut, avocado, eggplant, potato, carrot, ear of corn, hot
pepper=chili pepper, bell pepper, cucumber, onion, chestnut, croissant, pretzel, bagel, waffle, cheese
wedge=piece of cheese, meat on bone=piece of meat, hamburger, pizza, hot dog, sandwich, taco, burrito, egg,
dumpling, fortune cookie, ice cream, doughnut, cookie, birthday cake, cupcake, pie, candy, lollipop, honey
pot, baby bottle, teapot, wine glass, cocktail glass, beer mug, spoon, jar, amphora, chocolate bar, custard,
cup with straw=cup"""
_PLACES = """volcano, mountain, house, hospital, castle, church, tent, factory, fountain, hut, locomotive,
train, tram, bus, ambulance, fire engine, police car, taxi, automobile=car, pickup truck, delivery
truck=truck, tractor, racing car, motorcycle, motor scooter, bicycle, kick scooter, skateboard, roller skate,
auto rickshaw, fuel pump, wheel, stop sign, anchor, ring buoy, sailboat, canoe, speedboat, ship, airplane,
parachute, seat, helicopter, satellite, rocket, flying saucer"""
_OBJECTS = """luggage=suitcase, bellhop bell, watch, alarm clock, stopwatch, mantelpiece clock, thermometer,
star, cloud, rainbow, umbrella, snowflake, snowman, comet, droplet, balloon, party popper, jack-o-lantern,
ribbon, wrapped gift=gift, ticket, trophy, soccer ball, baseball, basketball, volleyball, american football,
boxing glove, ice skate, running shirt, sled, curling stone, yo-yo, kite, crystal ball, magic wand, joystick,
slot machine, puzzle piece, teddy bear, piñata, chess pawn, artist palette, yarn=ball of yarn, necktie,
t-shirt, scarf, coat, dress, kimono, purse, handbag, backpack, running shoe=sneaker, hiking boot, high-heeled
shoe, crown, top hat, graduation cap, billed cap=cap, lipstick, ring, gem stone=gem, lab coat, sari, safety
vest, megaphone, bell, postal horn, microphone, radio, saxophone, trumpet, accordion, guitar, violin, banjo,
drum, long drum, flute, harp, mobile phone, telephone, pager, battery, laptop, printer, keyboard, computer
mouse, floppy disk, movie camera, television, camera, video camera, candle, light bulb, flashlight, red paper
lantern=paper lantern, closed book=book, notebook, scroll, newspaper, coin, money bag, treasure chest, credit
card, envelope, package=box, postbox, pencil, pen, fountain pen, paintbrush, crayon, briefcase, clipboard,
pushpin, paperclip, wastebasket, key, old key, locked=padlock, hammer, axe, dagger, bomb, boomerang, shield,
wrench, screwdriver, gear, magnet, ladder, shovel, toolbox, hook, carpentry saw=saw, test tube, microscope,
telescope, syringe, pill, crutch, stethoscope, door, elevator, mirror, window, bed, chair, toilet, plunger,
bathtub, razor, safety pin, broom, basket, bucket, toothbrush, sponge, fire extinguisher, shopping cart,
coffin, headstone, moai, skull, ghost, robot, alien, red heart=heart, tooth, bone, brain, ear, nose, eye, red
circle=circle, red square=square, red triangle pointed up=triangle, water pistol, bookmark, label, cigarette,
adhesive bandage"""


def plain(text: str) -> str:
    """Lower case, straight quotes, no accents: how captions are written."""
    straight = text.lower().translate({0x2019: "'", 0x201C: '"', 0x201D: '"'})
    return unicodedata.normalize("NFKD", straight).encode("ascii", "ignore").decode()


def _parse(text: str) -> dict[str, str]:
    pairs = (item.strip().split("=") for item in text.replace("\n", " ").split(","))
    return {pair[0]: plain(pair[-1]) for pair in pairs}


NOUNS: dict[str, str] = {
    label: noun
    for text in (_ANIMALS, _PLANTS, _FOOD, _PLACES, _OBJECTS)
    for label, noun in _parse(text).items()
}
# Of the nouns that seven or more free vendors drew, the 24 with the smallest sha256 of "personal|<label>":
# never shown in training.
HELD_OUT = (
    "banana",
    "bed",
    "bell",
    "cactus",
    "canoe",
    "cigarette",
    "closed book",
    "drum",
    "ear of corn",
    "envelope",
    "fish",
    "goat",
    "horse",
    "laptop",
    "lollipop",
    "necktie",
    "old key",
    "pig",
    "printer",
    "satellite",
    "saxophone",
    "tram",
    "unicorn",
    "volcano",
)
_MANY = {
    "mouse": "mice",
    "computer mouse": "computer mice",
    "goose": "geese",
    "ox": "oxen",
    "wolf": "wolves",
    "maple leaf": "maple leaves",
    "tooth": "teeth",
    "sheep": "sheep",
    "fish": "fish",
    "tropical fish": "tropical fish",
    "blowfish": "blowfish",
    "jellyfish": "jellyfish",
    "shrimp": "shrimp",
    "squid": "squid",
    "deer": "deer",
    "bison": "bison",
    "moose": "moose",
    "scarf": "scarves",
    "mango": "mangoes",
    "potato": "potatoes",
    "tomato": "tomatoes",
    "mosquito": "mosquitoes",
    "volcano": "volcanoes",
    "snowman": "snowmen",
}
_AN = ("hour", "x-ray")
_A = ("unicorn", "uniform", "ukulele", "euro", "one")


def phrase(label: str) -> str:
    """What a concept of emojibase is called: "an apple", "grinning face"."""
    return article(NOUNS[label]) if label in NOUNS else plain(label)


def article(phrase: str) -> str:
    """The phrase with "a" or "an" before it, as it is said."""
    first = phrase.split()[0]
    an = (first[0] in "aeiou" or first.startswith(_AN)) and not first.startswith(_A)
    return f"{'an' if an else 'a'} {phrase}"


def plural(noun: str) -> str:
    """More than one of it."""
    if noun in _MANY:
        return _MANY[noun]
    if " of " in noun:
        head, _, rest = noun.partition(" of ")
        return f"{plural(head)} of {rest}"
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"
