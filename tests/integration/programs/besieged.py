"""A job that goes on until the file in its first argument exists; says how often it was right, and what its
process has unpickled by name: `besieged.py STOP`."""

import json
import os
import sys
import time

from scoop import futures

found = []


def watch(event, arguments):
    if event == "pickle.find_class":
        found.append([str(argument) for argument in arguments])


def square(x):
    time.sleep(0.001)
    return x * x


def main():
    rounds = 0
    while not rounds or not os.path.exists(sys.argv[1]):
        assert list(futures.map(square, range(200))) == [x * x for x in range(200)]
        if not rounds:
            print("go", flush=True)
            found.clear()
        rounds += 1
    print(json.dumps({"rounds": rounds, "found": found}), flush=True)


sys.addaudithook(watch)
if __name__ == "__main__":
    futures.startup(main)
