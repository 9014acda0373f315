"""Makes what training and codec need: `python -m scripts.demo_voice.prepare --work build/demo_voice`, some 4 minutes.

The source voice speaks the corpus; from it follow the tables of what each code sounds like and, with --new-inventory,
the codes themselves. Without it the codes of the voice in the package are kept. When a model with a new inventory is
exported, copy its inventory.json over the one beside this module.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from scripts.demo_voice import inventory, tables
from scripts.demo_voice.corpus import spoken
from scripts.demo_voice.inventory import Inventory
from scripts.demo_voice.lexicon import Lexicon

KEPT = Path(__file__).parent / "inventory.json"
"""The inventory of the voice in the package: a new one numbers the codes anew and needs a newly trained model."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/demo_voice"))
    parser.add_argument("--new-inventory", action="store_true", help="for a model that is trained from the beginning")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    corpus = spoken(options.work)
    path = options.work / "inventory.json"
    if options.new_inventory:
        inventory.build(corpus).save(path)
    else:
        shutil.copyfile(KEPT, path)
    tables.fit(Inventory.load(path), corpus).save(options.work / "tables.npz")
    Lexicon.load(options.work)


if __name__ == "__main__":
    main()
