"""The base model and its judge: from the Hub, a folder or a single file, verified, into memory.

wanted.py         which files a model consists of
hub.py            what the Hub says, and what its refusals mean
download.py       files onto the disk, gone on with where they broke off
known.py          hashes that the project vouches for
record.py         what the files were at their first use
configs.py        a part's config as its library reads it
architecture.py   can it be trained here? Told from configs
single/           checkpoints in a single file, converted once
files.py          all of these together: `fetch`, `check`, `repair`
load.py           the model's parts in memory
inference.py      options that trade time for memory
trial.py          first pictures; comparison.py: what the options save and cost
"""
