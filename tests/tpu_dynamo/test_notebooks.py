"""Results of ours as the last value of a notebook's cell."""

import html5lib
import torch

import tpu_dynamo
from tpu_dynamo.device_memory import Memory
from tpu_dynamo.statistics import Snapshot
from tpu_dynamo_runtime import Cost, LineCost, html_table


def texts(html: str) -> list[str]:
    """Return the texts of a table's cells; the parser raises for HTML that is wrong."""
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    return ["".join(cell.itertext()) for cell in parser.parseFragment(html).iter() if cell.tag in ("td", "th")]


def test_counts_that_are_not_zero():
    assert texts(Snapshot(graphs={"forward": 2}, lowerings=1200)._repr_html_()) == [
        "count", "of", "", "graphs", "forward", "2", "lowerings", "", "1,200",
    ]  # fmt: skip


def test_memory_by_owner():
    assert texts(Memory(parameters=5)._repr_html_())[-2:] == ["total", "5"]


def test_cost_by_line_with_what_is_in_no_cycles():
    lines = (LineCost("model.py", 3, 10, 20), LineCost(None, None, 1, 2))
    html = Cost(11, 4, 22, {"gather": 2}, lines)._repr_html_()
    assert texts(html)[3:] == ["model.py:3", "10", "20", "not of any line", "1", "2", "all", "11", "22"]
    assert "2 gather" in html


def test_texts_cannot_become_markup():
    assert texts(html_table(("<b>",), [("<script>",), (None,)])) == ["<b>", "<script>", ""]


def test_a_report_has_a_frame_of_its_own():
    with tpu_dynamo.diagnose() as found:
        assert "when the" in found._repr_html_()
        torch.compile(lambda x: x + 1, backend="tpu")(torch.ones(2))
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    (frame,) = parser.parseFragment(found._repr_html_())
    assert frame.tag == "iframe"
    assert frame.attrib["sandbox"] == "allow-scripts"
    html5lib.HTMLParser(strict=True).parse(frame.attrib["srcdoc"])


def test_a_graph_for_a_chip_shows_memory_and_lines():
    (graph,) = tpu_dynamo.compile_for(lambda x: x.sin() + 1, (torch.empty(8, 8, device="meta"),), target="cpu")
    shown = texts(graph._repr_html_())
    assert "temporaries" in shown
    assert any("test_notebooks.py:" in text for text in shown)
