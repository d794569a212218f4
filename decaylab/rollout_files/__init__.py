"""Reads existing rollouts from the files of trainers, engines and evaluators.

record            one rollout as in its file, in any format
formats/          the known formats: recognises each, and converts its rows to records
files             the files that an option names: single files, lists, or folders
stops             classifies stop reasons: natural, cut, aborted, other, unknown
given_prompts     recognises questions, messages and rendered prompts, and parses them
repeated_prompts  finds responses that begin with their prompt
reading           reads whole files: problems, rollouts, and counts
asked             the prompts of both policies: those of the file, if it has them
given_thoughts    checks thoughts in responses against --thinking
conversation      joins separate thoughts and turns with the student's template
responses         converts responses to the student's tokens
grades            the file's own verdicts
table             rows of the rollouts table
summary           describes what was read, for the terminal and run.json
"""
