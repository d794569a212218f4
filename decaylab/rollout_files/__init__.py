"""Rollouts that somebody already has, as trainers, engines and evaluators write them.

record            one rollout as its file has it, whatever the format
formats/          which writers are known, how each is recognised, and its rows as records
files             the files that an option names: alone, several, or in folders
stops             what a stop reason says: a natural end, a cut, an abort, or nothing that is known
given_prompts     questions, messages, rendered prompts: recognised and parsed back
repeated_prompts  responses that begin with their prompt
reading           files to the end: problems, rollouts, and counts of what was understood
asked             what the policies are asked: the file's own prompts, as far as it has them
given_thoughts    whether responses hold thoughts where --thinking says so
conversation      thoughts and turns that a file keeps apart, written as the student's template does
responses         texts and ids as responses in the student's tokens
grades            verdicts that the file already has
table             rows of the rollouts table
summary           what was understood, for the terminal and run.json
"""
