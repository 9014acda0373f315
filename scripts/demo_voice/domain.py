"""The demonstration's own small world of sentences: what the demo voice is trained to say best.

A sentence is a template whose slots are filled at random. One sentence in twenty is held out: which one follows from
its words alone, so that training and judging agree about it without a list.
"""

import random
import re
import zlib
from collections.abc import Iterator

HELD_OUT_OF = 20
"""One sentence in so many is never trained on."""


def _listed(items: str) -> list[str]:
    return items.split(", ")


_ONES = _listed("one, two, three, four, five, six, seven, eight, nine")
_TEENS = _listed("ten, eleven, twelve, thirteen, fourteen, fifteen, sixteen, seventeen, eighteen, nineteen")
_TENS = _listed("twenty, thirty, forty, fifty, sixty, seventy, eighty, ninety")
_NUMBERS = [*_ONES, *_TEENS, *_TENS, *(f"{ten} {one}" for ten in _TENS for one in _ONES), "one hundred"]

SLOTS: dict[str, list[str]] = {
    "number": _NUMBERS,
    "many": _NUMBERS[1:],
    "few": _NUMBERS[1:12],
    "hour": _NUMBERS[:12],
    "minute": _listed("ten, fifteen, twenty, thirty, forty, forty five, fifty"),
    "date": _listed("first, second, third, fourth, fifth, sixth, seventh, eighth, ninth, tenth"),
    "letter": _listed("B, C, D, E, F, G, H, J, K, L, M, N, P, Q, R, S, T, U, V, X, Y"),
    "day": _listed("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday"),
    "month": _listed(
        "January, February, March, April, May, June, July, August, September, October, November, December"
    ),
    "part": _listed("in the morning, in the afternoon, in the evening, after lunch"),
    "when": _listed("today, tomorrow, tonight, this morning, this evening, next week, on Monday, on Friday"),
    "now": _listed("today, this morning, this evening"),
    "colour": _listed("red, blue, green, yellow, black, white, brown, orange, purple, silver, golden, grey"),
    "size": _listed("big, small, large, little, old, new, long, short, heavy, light, round, empty"),
    "room": _listed("kitchen, bedroom, bathroom, garden, garage, hall, office, cellar"),
    "thing": _listed("book, lamp, chair, table, box, cup, bottle, clock, key, bag, letter, picture, radio, phone"),
    "things": _listed(
        "books, lamps, chairs, tables, boxes, cups, bottles, clocks, keys, bags, letters, pictures, apples, eggs"
    ),
    "device": _listed("light, radio, heater, fan, oven, television, alarm, computer, washing machine"),
    "place": _listed(
        "the station, the airport, the river, the market, the school, the museum, the park, "
        "the library, the hotel, the bridge, the hospital, the beach, the town hall, the bakery"
    ),
    "city": _listed("London, Paris, Berlin, Boston, Chicago, Denver, Madrid, Dublin"),
    "vehicle": _listed("train, bus, boat, taxi, plane, car, bicycle"),
    "weather": _listed("sunny, cloudy, rainy, windy, cold, warm, dry, stormy, foggy, mild"),
    "falls": _listed("rain, snow, wind, fog, sunshine, thunder"),
    "region": _listed("north, south, east, west, mountains, valley, city, country"),
    "side": _listed("left, right"),
    "food": _listed("bread, butter, cheese, soup, rice, fish, chicken, salad, cake, honey"),
    "drink": _listed("water, coffee, tea, milk, juice, lemonade"),
    "person": _listed("mother, father, brother, sister, teacher, doctor, friend, uncle"),
    "name": _listed("Anna, Peter, Mary, John, Susan, David, Laura, Thomas, Robert"),
    "animal": _listed("dog, cat, horse, bird, rabbit, cow, sheep, duck"),
    "likes": _listed("likes, wants, needs, found, bought, sold, lost, cleaned"),
    "moves": _listed("walked, drove, went, came back, ran, hurried"),
    "feels": _listed("happy, tired, hungry, busy, ready, late, early, quiet"),
    "mood": _listed("wonderful, lovely, quiet, strange, perfect, terrible, beautiful, simple"),
    "very": _listed("very, quite, rather, really, too"),
    "activity": _listed("reading, cooking, singing, dancing, swimming, painting, writing, sleeping"),
    "please": _listed("please, now, and then wait, and then stop"),
    "open": _listed("open, close, clean, lock, check"),
    "opening": _listed("door, window, gate, cupboard"),
    "show": _listed("demonstration, show, meeting, concert, lesson, tour"),
    "voice": _listed("voice, machine, model, computer, program"),
    "speech": _listed("speech, words, sentences, stories, numbers, questions"),
    "hello": _listed("hello, good morning, good evening, good afternoon, hi there"),
}
"""Slot to what may stand in it."""

TEMPLATES = [
    "Welcome to the {show}, {name}.",
    "{hello}, and welcome to our {show}.",
    "{hello}, {name}, my name is {name}.",
    "This {voice} speaks {mood} {speech}.",
    "The {voice} turns text into {speech}.",
    "Every {voice} can learn to say {many} {speech}.",
    "Thank you for listening to this {mood} {show}.",
    "Thank you, {name}, that was {mood}!",
    "What a {mood} {show} that was!",
    "What a {mood} day it is {now}!",
    "The {show} begins {when} at {hour} o'clock.",
    "The {show} starts at {hour} {minute} {when}.",
    "The {vehicle} to {city} leaves at {hour} {minute}.",
    "The {vehicle} from {city} is {many} minutes late.",
    "The next train to {city} leaves from platform {number}.",
    "When does the {vehicle} to {city} leave?",
    "How long is the {vehicle} ride from {city} to {city}?",
    "Please take the {vehicle} to {place} {when}.",
    "It is {hour} o'clock {part}.",
    "It is {many} degrees and {weather} in {city}.",
    "The weather in {city} is {weather} {when}.",
    "Will it be {weather} in {city} {when}?",
    "We expect {falls} in the {region} {when}.",
    "There will be {falls} and {falls} in the {region}.",
    "The {region} will be {weather}, and the night will be {weather}.",
    "Turn {side} at {place}, then walk {many} meters.",
    "Walk straight ahead and turn {side} after {place}.",
    "How far is it from here to {place}?",
    "Where is the {size} {thing}?",
    "The {colour} {thing} is in the {room}.",
    "The {size} {thing} stands beside the {colour} {thing}.",
    "There are {many} {things} in the {room}.",
    "I can see {many} {colour} {things} on the floor.",
    "Can you see the {colour} {thing} in the {room}?",
    "Put the {colour} {thing} into the {size} box.",
    "Please bring me the {colour} {thing}, {name}.",
    "Turn on the {device} in the {room}, please.",
    "Turn off the {device} at {hour} {minute}.",
    "Is the {device} in the {room} still on?",
    "{open} the {opening} of the {room}, {please}.",
    "Do not {open} the {colour} {opening}!",
    "Could you {open} the {opening} {when}?",
    "My {person} {likes} a {size} {thing}.",
    "Her {person} {likes} {few} {colour} {things}.",
    "{name} {moves} to {place} {part}.",
    "{name} and my {person} {moves} from {place} to {place}.",
    "My {person} is {very} {feels} {now}.",
    "Why is your {person} so {feels} {now}?",
    "I would like some {food} and a cup of {drink}, please.",
    "Do you want {food} or {food} with your {drink}?",
    "We need {few} bottles of {drink} and some {food}.",
    "The {food} with {food} costs {many} dollars.",
    "The {size} {animal} sleeps under the {colour} {thing}.",
    "Our {animal} {moves} around {place} {few} times.",
    "{name} is {activity} in the {room}.",
    "My {person} enjoys {activity}, but {name} prefers {activity}.",
    "Please call my {person} on {day} {part}.",
    "We will meet on {day} at {place}.",
    "Your letter of the {date} of {month} came on {day}.",
    "Press the letter {letter}, then the number {number}.",
    "My seat is {letter} {number}, next to the window.",
    "Please spell it as {letter}, {letter}, {letter}.",
    "Count from {number} to {number}, {please}.",
    "{many} and {many} are my lucky numbers.",
    "Thank you, {name}.",
    "Good night, {name}!",
    "Turn {side} now!",
    "{open} the {opening}!",
    "It is {weather} {now}.",
]
"""Sentences with slots in braces. The first letter becomes a capital."""

_SLOT = re.compile(r"\{(\w+)\}")


def words_of(text: str) -> list[str]:
    """The lower-case words of `text`, without punctuation."""
    return re.findall(r"[a-z']+", text.lower())


def is_held_out(text: str) -> bool:
    """Whether training must never see `text`; case and punctuation do not matter."""
    return zlib.crc32(" ".join(words_of(text)).encode()) % HELD_OUT_OF == 0


def _any_sentence(rng: random.Random) -> str:
    template = rng.choice(TEMPLATES)
    taken: set[str] = set()

    def fill(slot: re.Match[str]) -> str:
        choices = [choice for choice in SLOTS[slot[1]] if choice not in taken]
        taken.add(choice := rng.choice(choices))
        return choice

    text = re.sub(r"\ba (?=[aeiou])", "an ", _SLOT.sub(fill, template))
    return text[0].upper() + text[1:]


def sentence(rng: random.Random) -> str:
    """One sentence to train on, drawn with `rng`; never a held-out one."""
    while is_held_out(text := _any_sentence(rng)):
        pass
    return text


def _unseen(rng: random.Random) -> Iterator[str]:
    seen: set[str] = set()
    while True:
        text = _any_sentence(rng)
        if text not in seen and is_held_out(text):
            seen.add(text)
            yield text


def held_out(count: int, seed: int = 0) -> list[str]:
    """`count` different sentences that `sentence` never gives. The same seed gives the same ones."""
    sentences = _unseen(random.Random(seed))
    return [next(sentences) for _ in range(count)]


def bigram_corpus(count: int, seed: int = 1) -> list[list[str]]:
    """The words of `count` training sentences, for a language model; held-out sentences are not among them."""
    rng = random.Random(seed)
    return [words_of(sentence(rng)) for _ in range(count)]
