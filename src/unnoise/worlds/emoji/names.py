"""What every concept is called: its label, the words that people type for it, the names that other sets give
it, and its tags by how few share them.

A word that means one thing in plain speech means that here, whatever else carries it as a tag: "orange" is
the tangerine and no heart. A tag that n concepts share is said with weight n^-1.5: "mandarin" often, "food"
hardly ever.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from unnoise.base.colour import GROUNDS, NAMED
from unnoise.data.emoji import Concept
from unnoise.data.nouns import NOUNS, plain, plural

FURTHER = Path(__file__).with_name(
    "names.json"
)  # names in CLDR and other sets, by label: recipes/default/names.py makes it
POWER = 1.5
# label: words by which people mean just that. One word may stand with several labels: it then means each of
# them.
_MEANINGS = """
tangerine: orange, mandarin, clementine; locked: lock, padlock, closed lock; unlocked: open lock, open
padlock; crossed swords: sword, swords, blades; dagger: knife, blade, short sword; musical keyboard: piano,
grand piano, synthesizer; teacup without handle: tea, cup of tea, green tea, teacup; leafy green: lettuce,
cabbage, kale, leaf vegetable; green salad: salad, bowl of salad; steaming bowl: noodles, ramen, noodle
soup, bowl of noodles; spaghetti: pasta, plate of pasta; red paper lantern: lantern, paper lantern, chinese
lantern; olive: olives, green olive; dog face: puppy, doggy, pup, dog's head; dog: hound, doggo; cat face:
kitty, kitten, cat's head; cat: tabby, pussycat; automobile: car, auto, red car, motor car, sedan; bicycle:
bike, push bike, cycle; airplane: plane, aeroplane, aircraft, jet, jet plane, airliner; small airplane:
propeller plane, light aircraft; hot beverage: coffee, hot coffee, cup of coffee, espresso, hot drink, mug;
health worker: doctor, nurse, physician, medic; man health worker: doctor, male doctor, male nurse; woman
health worker: doctor, nurse, female doctor; triangular flag: flag, red flag, pennant; alarm clock: clock;
three o’clock: clock, wall clock, clock face; ten o’clock: clock, wall clock; mantelpiece clock: mantel
clock; castle: fortress, medieval castle; pirate flag: jolly roger, pirate; birthday cake: cake, birthday
cake with candles; crescent moon: moon, half moon, night moon; full moon: moon, round moon; smiling face
with sunglasses: cool face, sunglasses face, face with sunglasses, cool smiley; ear of corn: corn, maize,
corn cob, sweetcorn; cheese wedge: cheese, piece of cheese; bottle with popping cork: champagne, bottle of
champagne, sparkling wine; clinking glasses: toast, champagne glasses; baby chick: chick, little chick,
yellow chick; hatching chick: chick hatching, chick in an egg; shallow pan of food: paella; cooking: frying
pan, cooking pan, pan, skillet, fried egg; couch and lamp: couch, sofa, settee, lamp; cricket game: cricket
bat, cricket ball; woman dancing: dancer, female dancer, flamenco dancer, dancing woman; man dancing:
dancer, male dancer, dancing man; ballet dancer: ballerina, ballet; bullseye: dart, target, dartboard,
darts; game die: die, dice, six-sided die; fire engine: fire truck, firetruck; flag in hole: golf, golf
course, golf flag, golf hole; person golfing: golfer, golf player; raised hand: hand, open hand, high five;
headphone: headphones, headset, earphones; red heart: heart, love, love heart; hippopotamus: hippo; desert
island: island, tropical island; lady beetle: ladybug, ladybird; high voltage: lightning, lightning bolt,
bolt, thunderbolt, electricity; cloud with lightning: thunder, thundercloud; cloud with lightning and rain:
thunderstorm, storm; mahjong red dragon: mahjong, mahjong tile; sports medal: medal, gold medal; artist
palette: palette, paint palette, paint, art; pick: pickaxe; straight ruler: ruler, measuring stick;
triangular ruler: set square; person running: runner, jogger, running person, sprinter; man running: runner,
male runner; woman running: runner, female runner; Santa Claus: santa, father christmas, saint nicholas;
ewe: sheep, lamb; chipmunk: squirrel; cut of meat: steak, beef, meat, raw meat; person surfing: surfer,
surfing; man surfing: surfer; woman surfing: surfer; performing arts: theater mask, theatre masks, drama
masks, theater, mask; water wave: wave, ocean wave, sea, ocean, waves, tsunami; honeybee: bee, bumblebee;
bug: caterpillar, insect; spiral shell: shell, seashell, conch; sauropod: dinosaur, brontosaurus,
brachiosaurus; T-Rex: tyrannosaurus, tyrannosaurus rex; evergreen tree: pine tree, pine, fir tree, conifer,
spruce; deciduous tree: tree, oak, oak tree, big tree; palm tree: palm, coconut palm; blossom: flower,
yellow flower, daisy; rose: red rose; potted plant: plant, houseplant, pot plant; seedling: sprout, sapling;
four leaf clover: lucky clover, clover; shamrock: three leaf clover; fallen leaf: autumn leaves, leaf,
autumn leaf, brown leaf; leaf fluttering in wind: leaves, green leaves; herb: herbs, basil, parsley;
mushroom: toadstool, fungus, red mushroom; red apple: apple; green apple: granny smith; kiwi fruit: kiwi;
hot pepper: chili, chili pepper, chilli, red pepper, hot chili; bell pepper: capsicum, paprika, green
pepper; grapes: grape, bunch of grapes, purple grapes; cherries: cherry, red cherries; blueberries:
blueberry, berries; peanuts: peanut, nuts, nut; beans: bean, kidney beans; chestnut: acorn; ginger root:
ginger; pea pod: peas, pea; potato: spud; eggplant: aubergine; roasted sweet potato: sweet potato, yam;
bread: loaf of bread, loaf, bread loaf; baguette bread: baguette, french bread; flatbread: naan, pita;
pancakes: pancake, stack of pancakes; meat on bone: piece of meat, ham, ham bone; poultry leg: chicken leg,
drumstick, fried chicken; hamburger: burger, cheeseburger; french fries: fries, chips, potato fries; stuffed
flatbread: kebab, gyro, doner kebab; egg: boiled egg; pot of food: stew, pot, soup, cooking pot, casserole;
bowl with spoon: bowl, cereal, bowl of cereal, porridge; canned food: can, tin, tin can; rice ball: onigiri;
cooked rice: rice, bowl of rice; curry rice: curry; bento box: bento, lunch box; fried shrimp: tempura,
prawn; shrimp: prawns; dumpling: gyoza, dumplings; takeout box: takeaway, chinese takeout; soft ice cream:
soft serve, ice cream cone, vanilla cone; ice cream: bowl of ice cream, gelato, sundae; shaved ice: snow
cone; doughnut: donut; cookie: biscuit, chocolate chip cookie; shortcake: slice of cake, cake slice,
strawberry cake; cupcake: muffin; pie: apple pie; chocolate bar: chocolate, bar of chocolate; candy: sweet,
sweets, wrapped candy, bonbon; lollipop: lolly, sucker; custard: pudding, flan, creme caramel; honey pot:
honey, jar of honey; baby bottle: milk bottle, feeding bottle; glass of milk: milk; wine glass: wine, red
wine, glass of wine; cocktail glass: martini, cocktail; tropical drink: cocktail with umbrella, tropical
cocktail; beer mug: beer, mug of beer, pint, pint of beer; clinking beer mugs: two beers, beers; tumbler
glass: whiskey, whisky, glass; cup with straw: cup, soda, soft drink, milkshake, cola; beverage box: juice
box, juice, carton of juice; bubble tea: boba; ice: ice cube, ice cubes; fork and knife with plate: plate,
dinner plate, dinner; fork and knife: cutlery, fork, silverware; kitchen knife: chef's knife, cleaver; jar:
glass jar, mason jar; amphora: vase, urn; globe showing Americas: globe, earth, planet earth, world; globe
showing Europe-Africa: globe, earth, planet earth, world; globe showing Asia-Australia: globe, earth; world
map: map; snow-capped mountain: mountain peak, alps, snowy mountain; beach with umbrella: beach, sandy
beach, seaside, parasol; desert: dunes; national park: park, forest, landscape; camping: campsite; classical
building: temple, greek temple, parthenon, museum; building construction: crane, construction site; brick:
bricks, brick wall, wall; rock: stone, boulder; wood: log, logs, timber; derelict house: haunted house,
abandoned house, old house; house: home, cottage; house with garden: house and garden; office building:
office, skyscraper, building, tower, tower block; convenience store: shop, store, corner shop; department
store: mall, shopping mall; school: schoolhouse; factory: power plant, plant building; wedding: chapel;
Tokyo tower: eiffel tower, radio tower; Statue of Liberty: liberty statue; hindu temple: hindu shrine;
shinto shrine: torii gate, torii; cityscape: city, skyline, town; night with stars: night, starry night,
night sky; sunrise: dawn; sunset: dusk; bridge at night: bridge, golden gate bridge; hot springs: hot
spring, steam; carousel horse: carousel, merry-go-round; playground slide: slide, playground; ferris wheel:
big wheel; roller coaster: rollercoaster; barber pole: barber; circus tent: circus, big top; locomotive:
steam train, steam engine, steam locomotive; high-speed train: express train; train: railway, railroad
train; metro: subway, underground, subway train; bus: school bus, coach; minibus: van, minivan; police car:
cop car; taxi: cab, taxicab, yellow cab; sport utility vehicle: suv, jeep, blue car; pickup truck: pickup,
ute; delivery truck: truck, box truck; articulated lorry: lorry, semi truck, big truck, trailer truck;
racing car: race car, formula one car, sports car; motorcycle: motorbike, chopper; motor scooter: moped,
vespa, scooter; kick scooter: push scooter; auto rickshaw: tuk tuk, rickshaw; roller skate: roller skates,
rollerskate; motorway: highway, road, freeway, street; railway track: railroad, rails, train tracks; oil
drum: barrel, oil barrel; fuel pump: gas pump, petrol pump, gas station; wheel: tire, tyre; police car
light: siren, police light, alarm; horizontal traffic light: horizontal stoplight; vertical traffic light:
traffic light, traffic lights, stoplight; construction: construction barrier, road works; ring buoy:
lifebuoy, life ring, life preserver; sailboat: boat, sail boat, yacht, sailing boat; canoe: kayak, rowboat;
speedboat: power boat, motorboat; passenger ship: cruise ship, liner; ship: ocean liner, steamship; seat:
airplane seat; helicopter: chopper helicopter; rocket: spaceship, rocket ship, spacecraft; flying saucer:
ufo, alien ship; luggage: suitcase, baggage; bellhop bell: reception bell, hotel bell, service bell;
hourglass done: hourglass, sand timer, sand clock; watch: wristwatch, wrist watch; stopwatch: chronometer;
timer clock: timer, kitchen timer; sun: sunny, sunshine; sun with face: smiling sun; ringed planet: planet,
saturn; star: yellow star, gold star; shooting star: falling star, meteor; cloud: white cloud; cloud with
rain: rain, rainy cloud, raincloud; cloud with snow: snowfall, snow; sun behind cloud: partly cloudy,
cloudy; tornado: whirlwind; cyclone: hurricane, typhoon, spiral; umbrella: open umbrella; umbrella with rain
drops: umbrella in the rain; snowflake: snow crystal; snowman: snowman with snow; fire: flame, campfire,
flames; droplet: water, drop, water drop, drop of water; jack-o-lantern: halloween pumpkin, pumpkin, carved
pumpkin; Christmas tree: xmas tree, decorated tree; fireworks: firework; firecracker: dynamite; sparkles:
glitter; party popper: confetti, party; ribbon: bow, pink bow, pink ribbon; wrapped gift: gift, present,
birthday present, gift box; ticket: movie ticket; military medal: war medal; trophy: cup trophy, gold cup,
award; soccer ball: football, soccer, ball; american football: nfl football; tennis: tennis ball, tennis
racket; flying disc: frisbee; bowling: bowling ball, bowling pins, bowling pin; field hockey: hockey stick,
hockey; ice hockey: hockey puck; ping pong: table tennis; badminton: shuttlecock; boxing glove: boxing
gloves, boxing; martial arts uniform: karate, judo, karate uniform; goal net: goal; ice skate: ice skates,
skate; fishing pole: fishing rod, fishing; diving mask: snorkel, scuba mask; running shirt: tank top, vest;
skis: ski, skiing; sled: sledge, sleigh; water pistol: gun, pistol, squirt gun, toy gun, revolver; pool 8
ball: eight ball, billiards, pool ball; crystal ball: fortune teller ball; magic wand: wand; video game:
game controller, gamepad, controller; joystick: arcade stick; slot machine: casino; puzzle piece: puzzle,
jigsaw, jigsaw piece; teddy bear: teddy, stuffed bear; mirror ball: disco ball; nesting dolls: russian doll,
matryoshka, doll; spade suit: spade, spades; heart suit: heart card; diamond suit: diamonds card; club suit:
clubs; chess pawn: chess, pawn, chess piece; joker: joker card, playing card, card; framed picture:
painting, picture frame; thread: spool, spool of thread; sewing needle: needle; yarn: ball of yarn, wool,
ball of wool; knot: rope; glasses: eyeglasses, spectacles; sunglasses: shades; lab coat: white coat; safety
vest: hi-vis vest; necktie: tie, blue tie; t-shirt: shirt, tee, tee shirt; jeans: pants, trousers, denim;
gloves: glove, mittens; coat: jacket, overcoat; socks: sock, pair of socks; dress: gown, blue dress;
one-piece swimsuit: swimsuit, bathing suit; briefs: underwear, underpants; shorts: short pants; woman’s
clothes: blouse, women's clothes; folding hand fan: fan, hand fan; purse: coin purse; handbag: bag, hand
bag, tote; clutch bag: pouch; shopping bags: shopping bag, shopping; backpack: rucksack, school bag,
knapsack; thong sandal: flip flop, flip flops, sandal; man’s shoe: shoe, dress shoe, leather shoe; running
shoe: sneaker, sneakers, trainer, tennis shoe; hiking boot: boot, boots; high-heeled shoe: high heel, high
heels, stiletto; woman’s sandal: women's sandal; ballet shoes: ballet shoe; woman’s boot: women's boot;
woman’s hat: sun hat, sunhat; top hat: hat, black hat, magician's hat; graduation cap: mortarboard; billed
cap: cap, baseball cap; military helmet: helmet, army helmet; rescue worker’s helmet: hard hat, safety
helmet; prayer beads: necklace, beads, rosary; ring: diamond ring, wedding ring, engagement ring; gem stone:
gem, diamond, jewel, gemstone, crystal; speaker high volume: speaker, volume, sound; loudspeaker: public
address; megaphone: bullhorn; postal horn: horn, post horn, french horn; bell: golden bell, church bell;
musical score: sheet music, treble clef; musical note: note, music note, quaver; musical notes: music,
melody; studio microphone: podcast microphone; microphone: mic, karaoke; saxophone: sax; guitar: electric
guitar, acoustic guitar; violin: fiddle, cello; drum: snare drum, drums; long drum: conga, bongo; maracas:
maraca, shaker; mobile phone: phone, cell phone, smartphone, iphone, cellphone; telephone: landline, rotary
phone, desk phone; telephone receiver: handset, receiver; laptop: notebook computer, macbook; desktop
computer: computer, pc, monitor, computer screen; computer mouse: pc mouse; floppy disk: diskette; optical
disk: cd, disc, compact disc; movie camera: film camera; film frames: film, film strip, movie; clapper
board: clapperboard; television: tv, tv set; camera: photo camera, digital camera; video camera: camcorder;
videocassette: video tape, vhs, cassette; magnifying glass tilted left: magnifying glass, magnifier, loupe;
magnifying glass tilted right: magnifying glass, magnifier; light bulb: bulb, lightbulb, idea; flashlight:
torch; notebook with decorative cover: diary; closed book: book, red book; open book: opened book; books:
stack of books, pile of books; notebook: journal, exercise book; page facing up: page, document, paper,
sheet of paper; scroll: parchment; newspaper: paper news; label: tag, price tag; coin: gold coin; money bag:
bag of money, sack of money; treasure chest: treasure, chest; dollar banknote: money, dollar, cash, dollar
bill, banknote; credit card: bank card, debit card; receipt: bill; envelope: letter, mail; e-mail: email;
love letter: valentine, envelope with a heart; package: box, parcel, cardboard box; closed mailbox with
raised flag: mailbox, letterbox; postbox: post box, mail box; fountain pen: ink pen; pen: ballpoint pen;
paintbrush: brush, paint brush; memo: notes, pencil and paper; briefcase: attache case; file folder: folder;
calendar: date; tear-off calendar: desk calendar; chart increasing: graph, line chart; bar chart: chart, bar
graph; pushpin: push pin, thumbtack, drawing pin; round pushpin: map pin, pin; paperclip: paper clip;
scissors: pair of scissors, shears; wastebasket: trash can, bin, garbage can, trash; file cabinet: filing
cabinet, cabinet; key: golden key, house key; old key: skeleton key, antique key; hammer: claw hammer; axe:
ax, hatchet; bow and arrow: archery, arrow and bow; carpentry saw: saw, handsaw; wrench: spanner; nut and
bolt: screw, bolt and nut; gear: cog, cogwheel, settings; balance scale: scales, scale, justice scales;
link: chain link; chains: chain; toolbox: tool box; magnet: horseshoe magnet; ladder: step ladder; shovel:
spade shovel; alembic: flask, chemistry; test tube: vial; dna: double helix; satellite antenna: satellite
dish, radar, antenna; drop of blood: blood; pill: medicine, capsule, tablet, medication; syringe: injection,
vaccine, hypodermic needle; adhesive bandage: plaster, bandage, band-aid; stethoscope: doctor's stethoscope;
x-ray: xray, skeleton x-ray; door: wooden door; elevator: lift; mirror: looking glass; bed: double bed;
toilet: loo; shower: shower head; bathtub: bath, tub; razor: shaver; lotion bottle: shampoo, lotion,
sunscreen, bottle; safety pin: safetypin; broom: broomstick; basket: wicker basket; roll of paper: toilet
paper, toilet roll; bucket: pail; soap: bar of soap; bubbles: soap bubbles, bubble; toothbrush: tooth brush;
shopping cart: shopping trolley, trolley; cigarette: smoke, cigarettes; coffin: casket; headstone:
gravestone, grave, tombstone; funeral urn: ashes urn; moai: easter island head, stone head, easter island
statue; placard: sign, protest sign; spider web: cobweb, web; turkey: turkey bird; rooster: cock, cockerel;
chicken: hen; bird: blue bird, little bird; dove: pigeon, white dove; duck: mallard; eagle: hawk, bald
eagle; crocodile: alligator; turtle: tortoise; snake: serpent; dragon: chinese dragon; whale: blue whale;
spouting whale: whale spouting water; dolphin: porpoise; tropical fish: yellow fish, clownfish; fish: blue
fish, goldfish; blowfish: pufferfish, puffer fish; shrimp: prawn shrimp; squid: calamari; octopus: kraken;
bear: grizzly, grizzly bear, brown bear; panda: panda bear; rabbit: hare; rabbit face: bunny, bunny rabbit;
monkey: ape; gorilla: silverback; ox: bull, buffalo; cow: dairy cow; cow face: cow's head; pig: hog; pig
face: piglet, pig's head; boar: wild boar; horse: racehorse, stallion, pony; horse face: horse's head;
donkey: mule; deer: stag, reindeer; rhinoceros: rhino; mouse face: mouse's head; tiger face: tiger's head;
llama: alpaca; camel: dromedary; two-hump camel: bactrian camel; paw prints: paw, paw print; microbe: virus,
germ, bacteria; cherry blossom: sakura, pink blossom; bouquet: bunch of flowers, flowers; sheaf of rice:
wheat, grain, rice plant; empty nest: nest, bird's nest; nest with eggs: nest with eggs inside; leafless
tree: bare tree, dead tree; grinning face: smiley, smile, happy face, smiling, happy; smiling face: gentle
smile, content face; smiling face with smiling eyes: blushing smile, happy blush; slightly smiling face:
slight smile; face with tears of joy: laughing face, laughing, tears of joy, laughing crying, lol; rolling
on the floor laughing: rofl; winking face: wink, winking; smiling face with heart-eyes: heart eyes, in love,
love eyes; face blowing a kiss: blowing a kiss; kissing face: kiss face; face with tongue: tongue out;
thinking face: thinking, hmm; sleeping face: sleeping, asleep; crying face: crying, sad face, tear, sad;
loudly crying face: sobbing, bawling, loud crying; angry face: angry, mad face, anger; enraged face: red
angry face, furious, rage; face with medical mask: sick face, face mask, masked face, surgical mask;
nauseated face: sick, green face, queasy; face vomiting: vomit, throwing up; hot face: overheated; cold
face: freezing, frozen face; exploding head: mind blown; cowboy hat face: cowboy; partying face: party face;
nerd face: nerd, geek; worried face: worried; frowning face: frown, unhappy face; astonished face:
surprised, shocked face, surprise; flushed face: blushing; face screaming in fear: scream, screaming,
scared; yawning face: yawn, yawning; smiling face with horns: devil, demon, imp; smiling face with halo:
angel face, halo; skull and crossbones: crossbones; skull: skeleton head, skeleton; pile of poo: poop, poo;
clown face: clown; ghost: spook, spirit; alien: extraterrestrial, martian; alien monster: space invader,
monster, video game monster; robot: bot, android robot; zany face: crazy face, goofy; star-struck: star
eyes; upside-down face: upside down smiley; zipper-mouth face: zipped mouth; drooling face: drooling;
neutral face: straight face; face with rolling eyes: eye roll; money-mouth face: money face; shushing face:
shush, quiet; saluting face: salute; kiss mark: lips, lipstick kiss; hundred points: 100, hundred;
collision: explosion, boom, bang; dizzy: dizzy star; speech balloon: speech bubble, chat; thought balloon:
thought bubble; ZZZ: sleep, zzz; waving hand: wave hello, waving, hello, goodbye; OK hand: ok, okay sign;
victory hand: peace sign, v sign; crossed fingers: fingers crossed; thumbs up: thumb up, like; thumbs down:
dislike, thumb down; raised fist: fist; oncoming fist: fist bump, punch; clapping hands: applause, clapping;
folded hands: praying hands, prayer, please; handshake: shaking hands; nail polish: manicure, nails; flexed
biceps: muscle, strong arm, biceps, arm; leg: lower leg; anatomical heart: human heart; lungs: lung; eyes:
pair of eyes, two eyes; mouth: red lips; tooth: molar; bone: dog bone; tongue: tongue sticking; man: guy,
adult man, gentleman; woman: lady, adult woman; boy: little boy; girl: little girl, young girl; baby:
infant; child: kid; person: human, adult; old man: elderly man, grandfather, grandpa; old woman: elderly
woman, grandmother, grandma; man: beard: bearded man; student: pupil; teacher: professor; judge: magistrate;
farmer: gardener; cook: chef; mechanic: plumber; factory worker: welder; office worker: businessman,
business person; scientist: chemist; technologist: programmer, coder; singer: rock star; artist: painter;
pilot: airline pilot; astronaut: spaceman, cosmonaut; firefighter: fireman; police officer: policeman, cop,
police; detective: spy, sleuth; guard: royal guard, soldier; construction worker: builder; person with
crown: king, queen; prince: young king; princess: young queen; man in tuxedo: groom, tuxedo; woman with
veil: bride; pregnant woman: expecting mother, pregnancy; baby angel: angel, cherub; superhero: super hero;
supervillain: villain; mage: wizard, sorcerer; man mage: wizard, warlock; woman mage: witch, sorceress;
fairy: pixie; vampire: dracula, count dracula; merman: male mermaid; elf: female elf, legolas; genie: djinn;
zombie: undead; troll: forest troll; person walking: pedestrian; person in lotus position: yoga, meditation;
person swimming: swimmer, swimming; man swimming: swimmer; woman swimming: swimmer; person biking: cyclist,
bike rider; person lifting weights: weightlifter; person climbing: climber; people wrestling: wrestlers;
person juggling: juggler; person fencing: fencer; horse racing: jockey, horse race; skier: skiing person;
snowboarder: snowboard; person rowing boat: rower; person in bed: sleeping person; footprints: footprint;
family: parents and child; bust in silhouette: user, profile silhouette; people hugging: hug; couple with
heart: couple; broken heart: heartbreak; red circle: circle, red dot; red square: square; red triangle
pointed up: triangle, red triangle; warning: warning sign, caution; no entry: no entry sign; prohibited:
forbidden; radioactive: radiation, nuclear; peace symbol: hippie sign; yin yang: yin and yang; recycling
symbol: recycle, recycling; check mark: tick, checkmark; cross mark: red x, x mark; red question mark:
question mark, question; red exclamation mark: exclamation mark; infinity: infinity sign; heavy dollar sign:
dollar sign; plus: plus sign; minus: minus sign; multiply: multiplication sign; stop sign: stop; right
arrow: arrow; no smoking: no smoking sign; latin cross: cross; star of David: jewish star; TOP arrow: top;
chequered flag: checkered flag, racing flag, finish flag; white flag: surrender flag; rainbow flag: pride
flag; flag: United States: american flag, us flag; flag: United Kingdom: british flag, union jack; flag:
Germany: german flag; flag: France: french flag; flag: Japan: japanese flag; flag: Italy: italian flag;
flag: Canada: canadian flag; flag: China: chinese flag; flag: Spain: spanish flag; flag: Brazil: brazilian
flag; flag: India: indian flag"""
# Words that tags carry and that say something else in a prompt: a colour, a way of drawing, how many.
_OTHER_WORDS = """gray flat fluent noto one two three four five small large big little left right up down
above below the a an and with of side none no not"""
_NOT_NAMES = {*NAMED, *GROUNDS, *_OTHER_WORDS.split()}
# Of the nouns that seven or more free vendors drew, the 24 with the lowest word frequency in wordfreq 3.1.1
# (English), as recipes/default/held_out.py
# has them. The second world never shows or says them in training.
HELD_OUT = (
    "amphora",
    "bellhop bell",
    "blowfish",
    "chipmunk",
    "croissant",
    "droplet",
    "hibiscus",
    "high-heeled shoe",
    "joystick",
    "mantelpiece clock",
    "megaphone",
    "moai",
    "necktie",
    "pager",
    "paintbrush",
    "paperclip",
    "postbox",
    "pushpin",
    "rhinoceros",
    "seedling",
    "shamrock",
    "speedboat",
    "stopwatch",
    "wastebasket",
)


def _parse(text: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for entry in text.replace("\n", " ").split(";"):
        label, _, words = entry.strip().rpartition(": ")
        found[label] = (*found.get(label, ()), *(w.strip() for w in words.split(",")))
    return found


MEANINGS = _parse(_MEANINGS)


@dataclass(frozen=True)
class Called:
    """A concept's names. `main`: what it is called first; `nouns`: what it may be called in numbers and
    colours; `others`: every further name with how often it should be said, which add up to 1 (empty where it
    has none)."""

    main: tuple[str, ...]
    nouns: tuple[str, ...]
    others: tuple[tuple[str, float], ...]


@lru_cache(maxsize=1)
def further() -> dict[str, list[str]]:
    """Names in CLDR and in other sets, by label."""
    return json.loads(FURTHER.read_text())


def secrets(concepts: Sequence[Concept], held_out: Iterable[str] = ()) -> tuple[str, ...]:
    """What training must not say, alone and in numbers: labels and nouns of the concepts held out, and what
    else people call just them.

    Of the latter not those that are a part of another's name: "water" is no secret of the droplet's, since
    there is a water buffalo.
    """
    held = set(held_out)
    sure = {w for label in held for w in (plain(label), NOUNS.get(label, plain(label)))}
    parts = {w for c in concepts if c.label not in held for w in re.findall(r"[\w'-]+", plain(c.label))}
    shared = parts | {w for label, ws in MEANINGS.items() if label not in held for w in ws}
    words = sure | {w for label in held for w in MEANINGS.get(label, ()) if w not in shared}
    return tuple(sorted({form for w in words for form in (w, many(w))}))


_MEN = {
    "man": "men",
    "woman": "women",
    "person": "people",
    "child": "children",
    "foot": "feet",
    "knife": "knives",
    "elf": "elves",
    "leaf": "leaves",
    "loaf": "loaves",
    "die": "dice",
    "dice": "dice",
    "bus": "buses",
    "piano": "pianos",
    "puppy": "puppies",
    "squid": "squid",
}
_JOINTS = (" of ", " with ", " in ", " on ", " behind ", " without ", " from ", " at ", " playing ")


def many(noun: str) -> str:
    """More than one of it, also of phrases: "boxes of chocolate", "men in tuxedo"."""
    for joint in _JOINTS:
        head, found, rest = noun.partition(joint)
        if found:
            return f"{many(head)}{joint}{rest}"
    before, space, last = noun.rpartition(" ")
    if last in _MEN:
        return f"{before}{space}{_MEN[last]}"
    if last.endswith("man") and last != "human":
        return f"{before}{space}{last[:-3]}men"
    return noun if several(noun) else plural(noun)


def several(noun: str) -> bool:
    """Whether it is said in the plural already: jeans, scissors, grapes."""
    return noun.split()[-1].endswith("s") and not noun.endswith(
        ("ss", "us", "is", "abacus", "compass", "tennis", "gas", "bus")
    )


def called(concepts: Sequence[Concept], held_out: Sequence[str] = ()) -> dict[str, Called]:
    """The names of every concept, by label. Those that hold a word of `held_out` concepts are left out, and
    with them whoever has no other.
    """
    taken = _taken(concepts)
    shared = Counter(t for c in concepts for t in dict.fromkeys(map(plain, c.tags)))
    hidden = secrets(concepts, held_out)
    tells = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, hidden))})(?![\w-])") if hidden else None
    found = {}
    for c in concepts:
        words = _names(c, taken, shared)
        if tells and c.label not in held_out:
            words = _without(words, tells)
        if words:
            found[c.label] = words
    return found


def _taken(concepts: Sequence[Concept]) -> dict[str, set[str]]:
    """The words that mean something certain, and the labels of what they mean."""
    known = {c.label for c in concepts}
    taken: dict[str, set[str]] = {}
    for c in concepts:
        for word in {plain(c.label), NOUNS.get(c.label, plain(c.label))}:
            taken.setdefault(word, set()).add(c.label)
    for label, words in MEANINGS.items():
        for word in words if label in known else ():
            taken.setdefault(word, set()).add(label)
    return taken


def _names(c: Concept, taken: dict[str, set[str]], shared: Counter[str]) -> Called:
    label = plain(c.label)
    main = tuple(dict.fromkeys((NOUNS.get(c.label, label), label)))
    meant = tuple(w for w in MEANINGS.get(c.label, ()) if w not in main)
    weights = {w: 2 / (2 + k) for k, w in enumerate(meant)}  # the first comes to mind first
    for w in further().get(c.label, ()):
        if w not in weights and w not in main and taken.get(w, {c.label}) == {c.label}:
            weights[w] = 0.3
    for t in dict.fromkeys(map(plain, c.tags)):
        if t in weights or t in main or t in _NOT_NAMES or len(t) < 3 or any(ch.isdigit() for ch in t):
            continue
        if t in taken and c.label not in taken[t]:
            continue
        weights[t] = 0.7 * shared[t] ** -POWER
    total = sum(weights.values())
    nouns = [w for w in meant if not several(w) and not set(w.split()) & {*NAMED, *GROUNDS}]
    return Called(main, (main[0], *nouns), tuple((w, v / total) for w, v in weights.items()))


def _without(words: Called, tells: re.Pattern) -> Called | None:
    """The names that tell nothing; None where none is left."""
    main, nouns = (tuple(w for w in ws if not tells.search(w)) for ws in (words.main, words.nouns))
    others = [(w, v) for w, v in words.others if not tells.search(w)]
    if not main:
        return None
    total = sum(v for _, v in others)
    return Called(main, nouns or main, tuple((w, v / total) for w, v in others))
