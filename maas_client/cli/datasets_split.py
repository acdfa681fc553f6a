"""``maas-client datasets split``: training and validation files that share no prompt."""

from __future__ import annotations

import argparse
from pathlib import Path

from maas_client.cli._output import print_json, print_note, report_overwrites


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("file", metavar="FILE", help="JSON Lines")
    parser.add_argument("--train", metavar="OUT", help="default: FILE.train.jsonl")
    parser.add_argument("--validation", metavar="OUT", help="default: FILE.validation.jsonl")
    parser.add_argument("--share", type=float, default=None,
                        help="of the rows, for validation (0.1)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="the same seed, the same files (0)")
    parser.add_argument("--by", choices=("conversation", "prompt", "row"), default="conversation",
                        help="what stays together (conversation)")  # fmt: skip
    parser.add_argument("--no-shuffle", action="store_true", help="keep the order of the rows")
    parser.add_argument("--azure-split", action="store_true",
                        help="as Azure ML would: the last 20 %%, unshuffled")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Split; return 0."""
    from maas_client.dataset.edit.atomic_write import require_regular_file
    from maas_client.dataset.edit.split import AZURE_SHARE, split, split_like_azure

    require_regular_file(args.file)
    stem = Path(args.file).with_suffix("")
    training = args.train or f"{stem}.train.jsonl"
    validation = args.validation or f"{stem}.validation.jsonl"
    with report_overwrites(training, validation):
        if args.azure_split:
            share = AZURE_SHARE if args.share is None else args.share
            done = split_like_azure(args.file, training, validation, validation_share=share)
        else:
            done = split(
                args.file,
                training,
                validation,
                validation_share=0.1 if args.share is None else args.share,
                seed=args.seed,
                by=args.by,
                shuffle=not args.no_shuffle,
            )
    if args.json:
        print_json(done.to_dict())
        return 0
    print(f"{done.training}: {done.training_rows:,} rows")
    print(f"{done.validation}: {done.validation_rows:,} rows")
    if args.azure_split:
        print_note("cut off at the end, unshuffled, as Azure ML does without a validation file")
    else:
        print_note(f"{done.groups:,} groups by {done.by}, none in both files; seed {done.seed}")
    return 0
