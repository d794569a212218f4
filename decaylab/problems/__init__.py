"""Problem sets and their sources; extracting and grading answers.

sets                     loads problems by name
files, hub, cards        reads rows from files and from the hub
given_rows               rows that the user holds in memory
columns, nested_columns, chat_questions    finds question, answer and id in a row
abacus                   the generated world; abacus_writing and abacus_checking: its responses
grading                  verdicts by the answer rules, in worker processes
boxes, expressions, plain_numbers, forms   extracts answers from responses
answers, symbolic        decides whether two answers are equal
thoughts                 finds where thoughts end and the answer begins
own_sets, own_rules      problem sets and answer rules of the user's own
votes, applicable        majorities; which problems an answer rule can judge

Imports plugins, maths and errors.
"""
