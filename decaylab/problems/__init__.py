"""What is asked, where it comes from, what a response says, and whether that is right.

sets             problems by name, with the columns of a file (columns, nested_columns,
                 chat_questions), from files (files) or the hub (hub, cards); abacus is generated
grading          verdicts by the answer rules, in processes that can be lost
boxes, expressions, plain_numbers, forms   what a response says
answers, symbolic                          whether two answers are equal
thoughts         what stands in a thought is no answer
votes, applicable   majorities; where a rule applies

Imports maths and errors.
"""
