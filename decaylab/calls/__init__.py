"""Function calls: reading them from responses and judging them by the rules of the leaderboard.

values          a call; a value without a type
reading         the calls of a response, whatever form they have
marked, json_calls, python_calls, plain    the forms: with marks, JSON, Python, without marks
schemas         the functions of a row, checked, and as tools of a chat template
judging         problems, and the verdicts of their three rules
matching        whether one call is the expected one
sets            the problems of the leaderboard's files
glaive          training prompts of glaive-function-calling-v2

Imports errors.
"""
