"""The page on changing lengths has the table of the rules that there are."""

from . import bucket_rules


def test_the_table_is_that_of_the_rules():
    assert bucket_rules.written() == bucket_rules.rows(), "run: python -m tests.docs.bucket_rules"
