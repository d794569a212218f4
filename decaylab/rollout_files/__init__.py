"""Rollouts that somebody already has, as trainers, engines and evaluators write them.

record          one rollout as its file has it, whatever the format
formats/        which writers are known, how each is recognised, and its rows as records
files           rows of JSONL, JSON and parquet files, packed or not, in folders or alone
stops           what a stop reason says: a natural end, a cut, an abort, or nothing that is known
given_prompts   questions, messages, rendered prompts: recognised and parsed back
reading         files to the end: problems, rollouts, and counts of what was understood
conversation    thoughts and turns that a file keeps apart, written as the student's template does
responses       texts and ids as responses in the student's tokens
grades          verdicts that the file already has
table           rows of the rollouts table
summary         what was understood, for the terminal and run.json
"""
