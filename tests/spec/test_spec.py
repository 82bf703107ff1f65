"""From `sweep.yaml` to a frozen question: every slip at once, and what is written reads back equal."""

from __future__ import annotations

import json
import pickle
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sweeper.errors import UserError
from sweeper.spec import urls
from sweeper.spec.amending import amended
from sweeper.spec.faults import Faults
from sweeper.spec.loading import changed, difference, dump, load, parse
from sweeper.spec.model import Bound, Search, SweepSpec
from sweeper.spec.space import Space
from sweeper.spec.yaml_text import LIMIT_BYTES, plain_value, read, write
from trainables.metrics import METRICS
from trainables.task import Task


def told(text: str) -> list[str]:
    with pytest.raises(Faults) as caught:
        parse(text)
    return str(caught.value).splitlines()


# --- what a file may say


def test_a_name_is_enough() -> None:
    spec = parse("name: first")
    assert spec.objectives == {"accuracy": "max", "delta_f1": "min"}
    assert spec.task() == Task()
    assert spec.search.seed_list == (0,)
    assert spec.reference == {"accuracy": 0.0, "delta_f1": 1.0}


def test_a_section_whose_lines_are_all_commented_out_is_as_good_as_absent() -> None:
    assert parse("name: x\nsearch:\n  # trials: 3\n") == parse("name: x")


def test_a_spec_does_not_change() -> None:
    spec = parse("name: x")
    with pytest.raises(ValidationError, match="frozen"):
        spec.name = "y"  # type: ignore[misc]


def test_seeds_are_a_number_or_a_list() -> None:
    assert parse("name: x\nsearch: {seeds: 3}").search.seed_list == (0, 1, 2)
    assert parse("name: x\nsearch: {seeds: [7, 5]}").search.seed_list == (7, 5)


@pytest.mark.parametrize("text", ["'>= 0.8'", "{min: 0.8}", "'>=8e-1'"])
def test_a_bound_is_written_as_a_comparison_or_a_mapping(text: str) -> None:
    assert parse(f"name: x\nconstraints: {{accuracy: {text}}}").constraints == {"accuracy": Bound(min=0.8)}


def test_a_violation_is_the_distance_to_the_bound_and_of_nan_it_has_no_end() -> None:
    bound = Bound(min=0.5, max=0.75)
    assert [bound.violation(value) for value in (0.25, 0.5, 0.75, 1.0)] == [0.25, 0.0, 0.0, 0.25]
    assert Bound(min=0.5).violation(0.75) == -0.25
    assert bound.violation(float("nan")) == float("inf")


def test_numbers_with_an_exponent_are_numbers_and_no_is_text() -> None:
    words = ["1e-3", "1E5", ".5", "8", "-3", "true", "no", "on", "012", "1_000", "12:30", "2024-01-01", "~", "0x10"]
    values = [0.001, 1e5, 0.5, 8, -3, True, "no", "on", 12, "1_000", "12:30", "2024-01-01", None, "0x10"]
    assert [plain_value(word) for word in words] == values
    assert parse("name: x\nspace: {learning_rate: 1e-3}").space.dimensions["learning_rate"].grid() == (0.001,)


def test_a_trial_budget_of_nsga2_is_four_populations_unless_said_and_stays_when_it_is_extended() -> None:
    spec = parse("name: x\nsearch: {sampler: nsga2, trials: 40}")
    assert spec.search.population == 10
    assert changed(spec, {"search.trials": 80}).search.population == 10
    assert parse("name: x\nsearch: {sampler: nsga2, trials: 1000}").search.population == 50


def test_the_budget_of_a_grid_is_its_points_and_the_baselines() -> None:
    grid = "space: {lambda: [0.1, 1], rank: [4, 8]}\nsearch: {sampler: grid, baselines: [lora]}"
    assert parse(f"name: x\n{grid}").budget == 5
    assert parse("name: x\nsearch: {trials: 7}").budget == 7
    assert parse("name: x\n" + grid.replace("[lora]", "{lora: 2}")).budget == 6


def test_a_baseline_of_one_trial_is_the_same_in_both_forms() -> None:
    one, other = (parse(f"name: x\nsearch: {{baselines: {form}}}") for form in ("[lora, fft]", "{lora: 1, fft: 1}"))
    assert one == other
    assert one.identity() == other.identity()
    tuned = parse("name: x\nsearch: {baselines: {lora: 5, fft: 1}}")
    assert tuned.search.baseline_list == ("lora",) * 5 + ("fft",)
    assert parse(dump(tuned)) == tuned
    assert difference(one.identity(), tuned.identity()) == [
        "search.baselines: was ['lora', 'fft'], is now {'lora': 5, 'fft': 1}"
    ]


# --- what it may not say


EVERYTHING_WRONG = """\
name: Bad Name
data: {nmae: x, max_bad: 3}
groups: clas
space:
  lamda: 3
  rank: 0
objectives:
  delta_f1: minimise
  acuracy: max
constraints: {accuracy: '> 0.8'}
search:
  sampler: tpee
  trials: true
  seeds: [0, 0.5]
  baselines: [lroa]
resources: {gpus: 1.5, threads: x}
storage: {study: foo}
train: 5
serch: 3
name: y
"""


def test_all_slips_of_a_file_are_told_at_once_in_the_order_of_its_lines() -> None:
    lines = [int(line.split(":")[1]) for line in told(EVERYTHING_WRONG)]
    assert lines == [1, 2, 2, 3, 5, 6, 8, 9, 10, 12, 13, 14, 15, 16, 16, 17, 18, 19, 20]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("groups: clas", "groups is 'clas'. Did you mean 'class'? Use 'class', 'attribute' or 'cell'."),
        ("objectives: {delta_f1: minimise}", "objectives.delta_f1 is 'minimise'. Use 'min' or 'max'."),
        ("objectives: {loss: max}", "objectives.loss is 'max', the worse end of this metric. Use 'min'."),
        ("objectives: {}", "objectives is {}. Give 1 or more."),
        ("data: {max_bad: 3}", "data.max_bad is 3. Use 1 or less."),
        ("data: {nmae: x}", "data.nmae is unknown. Did you mean 'name'? "
         "Known: attributes, columns, crop_banner, exif, images, limit, max_bad, name, "
         "on_bad, partition, root, subset, task, validation."),
        ("data: {'[key]': x}", "data.[key] is unknown. "
         "Known: attributes, columns, crop_banner, exif, images, limit, max_bad, name, "
         "on_bad, partition, root, subset, task, validation."),
        ("data: {name: csv, columns: {imge: x}}", "data.columns.imge is unknown. Did you mean 'image'? "
         "Known: attribute, groups, image, label, split, text."),
        ("data: {name: csv, partition: 3}", "data.partition is 3. Use a path."),
        ("data: {name: csv, task: age}", "data.task is for utkface, and data.name is 'csv'. Remove it."),
        ("data: {name: utkface, task: aeg}", "data.task is 'aeg'. Did you mean 'age'? Use 'gender' or 'age'."),
        ("data: {name: aircraft, crop_banner: perhaps}", "data.crop_banner is 'perhaps'. Use true or false."),
        ("search: {sampler: nsga2, population: 1}", "search.population is 1. Use 2 or more."),
        ("search: {sampler: nsga2, population: x}", "search.population is 'x'. Use a whole number."),
        ("train: 5", "train is 5. Use a mapping of `key: value` lines."),
        ("search: {trials: 0}", "search.trials is 0. Use 1 or more."),
        ("search: {trials: many}", "search.trials is 'many'. Use a whole number."),
        ("search: {trials: true}", "search.trials is true. Use a whole number."),
        ("search: {seeds: 0}", "search.seeds is 0. Use a number of seeds such as 3, "
         "a list such as [0, 1, 2], or {start: 1, most: 5} for a race, most above start; 1,000 at most."),
        ("search: {seeds: 10000000000}", "search.seeds is 10000000000. Use a number of seeds such as 3, "
         "a list such as [0, 1, 2], or {start: 1, most: 5} for a race, most above start; 1,000 at most."),
        ("space: {rank: 100000}", "space.rank is 100000. Use 8192 or less."),
        ("space: {rank: [4, 100000]}", "space.rank[1] is 100000. Use 8192 or less."),
        ("space: {rank: {low: 4, high: 100000, log: true}}", "space.rank.high is 100000. Use 8192 or less."),
        ("backbone: {name: 'hf-hub:timm/vit_small.dino'}", "backbone.name is 'hf-hub:timm/vit_small.dino'. Name the "
         "model, not its address, as in 'timm:vit_small.dino' or 'open_clip:MODEL/TAG'; a file of weights that you "
         "have downloaded goes into backbone.weights."),
        ("search: {seeds: [1, 1]}", "search.seeds[1] is 1, which the list already has. Keep one."),
        ("search: {sampler: tpee}", "search.sampler is 'tpee'. Did you mean 'tpe'? "
         "Known: auto, gp, grid, nsga2, random, tpe."),
        ("search: {sampler: 3}", "search.sampler is 3. Use text, if need be in quotes."),
        ("search: {baselines: [lroa]}", "search.baselines[0] is 'lroa'. Did you mean 'lora'? Known: fairfft, fairlora, "
         "fft, fft-balanced, fft-dfr, fft-groupdro, fft-reweight, lora, lora-balanced, lora-dfr, lora-groupdro, "
         "lora-reweight, probe."),
        ("data: {name: waterbrids}", "data.name is 'waterbrids'. Did you mean 'waterbirds'? "
         "Known: aircraft, csv, digits-on-scenes, dlab-hate-speech, docstrings, folder, geode, utkface, waterbirds."),
        ("search: {baselines: {lroa: 3}}", "search.baselines.lroa is unknown. Did you mean 'lora'? Known: fairfft, "
         "fairlora, fft, fft-balanced, fft-dfr, fft-groupdro, fft-reweight, lora, lora-balanced, lora-dfr, "
         "lora-groupdro, lora-reweight, probe."),
        ("search: {baselines: {lora: 0}}", "search.baselines.lora is 0. Use 1 or more."),
        ("search: {baselines: 5}", "search.baselines is 5. Use a list of methods such as [lora], or how many trials "
         "each has, such as {lora: 5}."),
        ("search: {baselines: [lora, lora]}", "search.baselines[1] is 'lora', which the list already has. Keep one."),
        ("search: {trials: 4, baselines: {lora: 5}}",
         "search.trials is 4, and the baselines have 5. Use more trials."),
        ("search: {baselines: {fft: 2}}",
         "search.baselines.fft is 2, but fft has 1 points. Use fft: 1 at most, or a range instead of a list."),
        ("search: {trials: 1, baselines: [lora, fft]}",
         "search.trials is 1, and there are 2 baselines. Use more trials."),
        ("search: {population: 4}",
         "search.population is for nsga2, and search.sampler is 'tpe'. Remove it."),
        ("search: {sampler: nsga2, trials: 48, population: 50}",
         "search.population is 50, not below the budget of 48 trials: all would be random. "
         "Use a population of at most 12, or trials: 200."),
        ("search: {sampler: nsga2, trials: 2}",
         "search.population is 2, not below the budget of 2 trials: all would be random. Use trials: 8."),
        (
            "objectives: {worst_group_accuracy: max, worst_accuracy_by_cell: max}",
            "objectives.worst_group_accuracy is worst_accuracy_by_cell under its older name: one objective twice. "
            "Leave one of them out.",
        ),
        ("search: {reference: {loss: 3}}", "search.reference.loss is not an objective. Use accuracy, delta_f1."),
        ("resources: {gpus: 1.5}",
         "resources.gpus is 1.5. Use 'auto', a share of one GPU such as 0.5, or a whole number."),
        ("resources: {cpus: 0}",
         "resources.cpus is 0. Use 'auto', a share of one CPU above 0 such as 0.5, or a whole number."),
        ("constraints: {accuracy: '> 0.8'}",
         "constraints.accuracy is '> 0.8'. Use '>= 0.8', '<= 0.2' or {min: 0.8, max: 0.9}."),
        ("constraints: {accuracy: {min: 1, max: 0}}",
         "constraints.accuracy is {'min': 1, 'max': 0}. No value is at least min and at most max: exchange them."),
        ("train: {micro_batch: soon}", "train.micro_batch is 'soon'. Use 'auto', or a whole number, 1 or more."),
        ("train: {micro_batch: 0}", "train.micro_batch is 0. Use 'auto', or a whole number, 1 or more."),
        ("storage: {study: foo}", "storage.study is 'foo'. "
         "Use sqlite:///study.db or postgresql://host/name."),
        ("space: {lambda: {points: 3}}",
         "space.lambda.points is for sampler grid; tpe draws from the whole range. "
         "Remove it, use a list of values, or use sampler: grid."),
    ],
)  # fmt: skip
def test_a_slip_is_told_with_line_given_allowed_and_mend(text: str, sentence: str) -> None:
    assert told(f"name: x\n{text}") == [f"sweep.yaml:2: {sentence}"]


def test_an_unknown_metric_is_told_with_the_nearest_and_all_that_are_known() -> None:
    (line,) = told("name: x\nobjectives:\n  acuracy: max")
    assert line.startswith("sweep.yaml:3: objectives.acuracy is unknown. Did you mean 'accuracy'? Known: accuracy, ")
    assert all(name in line for name in METRICS)


def test_an_unknown_backbone_is_told_with_the_nearest_and_the_families() -> None:
    (line,) = told("name: x\nbackbone: {name: smal-vit}")
    assert line.startswith("sweep.yaml:2: backbone.name is 'smal-vit'. Did you mean 'small-vit'?")
    assert "timm:NAME" in line
    assert parse("name: x\nbackbone: {name: 'timm:vit_tiny_patch16_224'}").backbone.name == "timm:vit_tiny_patch16_224"


def test_a_missing_name_is_told_with_its_mend() -> None:
    assert told("groups: cell") == ["sweep.yaml: name is missing. Add a line `name: ...`."]


def test_a_grid_over_a_range_without_points_is_refused_at_its_line() -> None:
    (line,) = told("name: x\nspace:\n  rank: 8\n  lambda: {low: 0.1}\nsearch: {sampler: grid}")
    assert line == (
        "sweep.yaml:4: space.lambda is a range without points, and a grid needs values. Use a list, or add `points: 5`."
    )


def test_a_search_for_more_trials_than_its_finite_space_has_points_is_refused() -> None:
    text = "name: x\nspace: {method: lora, rank: [4, 8, 16]}\nsearch: {sampler: tpe, trials: %d, baselines: [fft]}"
    assert parse(text % 4).budget == 4
    (line,) = told(text % 5)
    assert "search.trials is 5, but the space has 3 points. Use sampler: grid" in line


def test_the_own_trials_of_a_baseline_in_a_grid_are_its_own_grid() -> None:
    text = "name: x\nspace: {method: %s, rank: [4, 8]%s}\nsearch: {sampler: grid, baselines: {lora: 3}}"
    (line,) = told(text % ("fairlora", ", lambda: 1"))
    assert line.endswith("search.baselines.lora is 3, but lora has 2 points. Use lora: 2.")
    (line,) = told((text % ("fft", "")).replace("rank: [4, 8]", "epochs: 1"))
    assert line.endswith("but a grid needs values of rank. Use lora: 1, or sweep lora too.")


def test_a_grid_that_the_budget_would_cut_short_is_refused() -> None:
    (line,) = told("name: x\nspace: {lambda: {points: 5}, rank: {points: 6}}\nsearch: {sampler: grid, trials: 20}")
    assert line.endswith("search.trials is 20, but grid and baselines are 30 points. Use trials: 30, or fewer values.")


def test_a_contradiction_between_good_sections_is_told_beside_the_slips_of_bad_ones() -> None:
    lines = told("name: x\nsearch: {sampler: grid}\nspace: {rank: 8}\nresources: {gpus: -1}")
    assert [line.split()[1] for line in lines] == ["space.lambda", "resources.gpus"]


def test_a_bad_section_is_not_also_held_against_the_others() -> None:
    assert len(told("name: x\nsearch: {sampler: grid, trials: x}\nspace: {lambda: 1}")) == 1


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("oracle://host/db", "Use sqlite:///study.db or postgresql://host/name."),
        ("postgres://host/db", "Use sqlite:///study.db or postgresql://host/name."),
        ("POSTGRESQL://host/db", "Use sqlite:///study.db or postgresql://host/name."),
        ("mysql://host/db", "Use sqlite:///study.db or postgresql://host/name."),
        ("http://host:5000", "Use sqlite:///study.db or postgresql://host/name."),
        ("study.db", "Use sqlite:///study.db or postgresql://host/name."),
        ("sqlite://study.db", "A file comes after three slashes, one with its full path after four: sqlite:////data/x.db."),
        ("sqlite://", "A file comes after three slashes, one with its full path after four: sqlite:////data/x.db."),
        ("sqlite:///", "A database in memory ends with its process. Use sqlite:///study.db or postgresql://host/name."),
        ("sqlite:///:memory:",
         "A database in memory ends with its process. Use sqlite:///study.db or postgresql://host/name."),
        ("postgresql://host:port/db",
         "Its host or port cannot be read. Use sqlite:///study.db or postgresql://host/name."),
        ("postgresql://[::1/db", "Its host or port cannot be read. Use sqlite:///study.db or postgresql://host/name."),
    ],
)  # fmt: skip
def test_a_study_is_kept_in_sqlite_or_postgresql_and_nothing_else_is_begun_with(url: str, why: str) -> None:
    assert told(f"name: x\nstorage: {{study: '{url}'}}") == [f"sweep.yaml:2: storage.study is '{url}'. {why}"]


@pytest.mark.parametrize(
    "url", ["databricks", "databricks://me", "mlruns", "file:///mlruns", "ftp://host/x", "http://"]
)
def test_a_record_is_written_where_mlflow_takes_it(url: str) -> None:
    (line,) = told(f"name: x\nstorage: {{mlflow: '{url}'}}")
    assert line.startswith(f"sweep.yaml:2: storage.mlflow is '{url}'. ")
    assert line.endswith("Use http://host:5000, https://host, sqlite:///mlflow.db or postgresql://host/name.")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///study.db", "sqlite:////data/my sweeps/study.db", "sqlite:///50%25.db", "sqlite+pysqlite:///a.db",
        "postgresql://host/db", "postgresql://me@host:5432/db", "postgresql+psycopg:///db?host=/run/socket",
        "postgresql://[::1]:5432/db", "postgresql:///db",
    ],
)  # fmt: skip
def test_a_url_that_sqlalchemy_can_open_is_taken_for_study_and_record(url: str) -> None:
    storage = parse(f"name: x\nstorage: {{study: '{url}', mlflow: '{url}'}}").storage
    assert (storage.study, storage.mlflow) == (url, url)


def test_a_sqlite_file_is_the_one_that_sqlalchemy_opens_whatever_its_name() -> None:
    for name in ("study.db", "/data/my sweeps/50%20?#.db", "/ä/b.db"):
        url = urls.sqlite_url(Path(name))
        assert urls.sqlite_file(url) == Path(name)
        assert sa.make_url(url).database == name
    assert urls.sqlite_file("postgresql://host/db") is None


def test_a_password_in_a_url_is_refused_and_not_shown() -> None:
    (line,) = told("name: x\nstorage: {study: 'postgresql://me:secret@host/db'}")
    assert "A password does not belong in a spec" in line
    assert "secret" not in line


# --- the file itself


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "sweep.yaml:1: a sweep is a mapping of `key: value` lines. Start with `name: my-sweep`."),
        ("- a", "sweep.yaml:1: a sweep is a mapping of `key: value` lines. Start with `name: my-sweep`."),
        ("name: x\n\tgroups: cell", "sweep.yaml:2: this is not readable as YAML: found character '\\t' that cannot "
         "start any token. Indent with spaces, not tabs."),
        ("a: b: c", "sweep.yaml:1: this is not readable as YAML: mapping values are not allowed here."),
        ("a: &x 1\nb: *x", "sweep.yaml:2: this is not readable as YAML: aliases are not allowed."),
        ("[" * 10_000, "sweep.yaml: this is not readable as YAML: it is nested too deeply."),
        ("a: 1\n---\nb: 2", "sweep.yaml:2: this is not readable as YAML: but found another document."),
        ("\x01", "sweep.yaml: this is not readable as YAML: unacceptable character #x0001: special characters are "
         "not allowed."),
        ("#" * (LIMIT_BYTES + 1), "sweep.yaml: the file is above 1,000,000 bytes. This is not a sweep."),
    ],
    ids=["empty", "list", "tab", "syntax", "alias", "deep", "two", "control", "large"],
)  # fmt: skip
def test_what_is_not_a_sweep_is_refused_with_its_line(text: str, sentence: str) -> None:
    assert told(text) == [sentence]


def test_a_key_given_twice_is_a_slip_at_the_second() -> None:
    assert told("name: x\nsearch: {trials: 3,\n  trials: 4}") == [
        "sweep.yaml:3: search.trials is given twice (first on line 2). Keep one."
    ]


def test_a_tag_makes_no_object() -> None:
    (line,) = told("name: !!python/object/apply:os.getcwd []\n")[:1]
    assert line.startswith("sweep.yaml:1: name")
    assert "sweep.yaml:2: groups has the tag" in "\n".join(told("name: x\ngroups: !!python/name:os.system x"))


def test_ten_nested_aliases_do_not_grow_into_a_thousand_million() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]\n" for n in range(9))
    began = time.perf_counter()
    assert "aliases are not allowed" in told(bomb)[0]
    assert time.perf_counter() - began < 2


def test_a_file_is_read_by_its_path_and_slips_are_told_with_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: x\ngroups: cel\n")
    with pytest.raises(Faults, match=r"mine\.yaml:2: groups is 'cel'"):
        load(path)
    path.write_text("name: x\n")
    assert load(path) == load(str(path)) == parse("name: x")


def test_a_file_that_is_not_there_or_not_text_is_told_without_a_traceback(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read: No such file or directory. Give the path"):
        load(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        load(tmp_path)
    (tmp_path / "bytes.yaml").write_bytes(b"name: \xff")
    with pytest.raises(UserError, match=r"not text in UTF-8 \(byte 6\)"):
        load(tmp_path / "bytes.yaml")


def test_faults_survive_the_way_from_another_process() -> None:
    with pytest.raises(Faults) as caught:
        parse("name: x\ngroups: cel")
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  # our own object, as Ray sends it
    assert str(again) == str(caught.value)


# --- round trips and identity

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=12),
    st.sampled_from(["1e-3", "no", "~", "null", "true", "012", ".inf", "- x", "a: b", "#", "2*rank", "'", ""]),
)  # fmt: skip
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)


@given(st.dictionaries(st.text(max_size=8), trees, max_size=4))
def test_what_is_written_as_yaml_reads_back_equal_with_its_types(values: dict[str, Any]) -> None:
    back = read(write(values), "x").values
    assert back == values
    assert repr(back) == repr(values)


def has_enough_points(values: dict[str, Any]) -> bool:
    """Whether the space has as many points as the search has trials, as a spec must."""
    size = Space.parse(values.get("space", {})).size()
    return size is None or size >= values.get("search", {}).get("trials", Search().trials)


numbers = st.floats(0.011, 99, allow_nan=False)
specs = st.fixed_dictionaries(
    {"name": st.from_regex(r"\A[a-z0-9][a-z0-9._-]{0,20}\Z")},
    optional={
        "groups": st.sampled_from(["class", "attribute", "cell"]),
        "space": st.fixed_dictionaries(
            {},
            optional={
                "lambda": numbers | st.lists(numbers, min_size=1, max_size=3, unique=True) | st.just({"low": 0.001}),
                "rank": st.integers(1, 64) | st.just({"low": 4, "high": 64}),
                "alpha": st.sampled_from([16, "2*rank", ["16", "1*rank"]]),
                "method": st.just(["lora", "fairlora"]),
            },
        ),
        "objectives": st.sampled_from([{"loss": "min"}, {"delta_f1": "min", "accuracy": "max", "eod": "min"}]),
        "constraints": st.sampled_from([{}, {"accuracy": ">= 0.5"}, {"delta_f1": {"min": 0, "max": 0.25}}]),
        "search": st.fixed_dictionaries(
            {"trials": st.integers(4, 99)},
            optional={
                "sampler": st.sampled_from(["tpe", "gp", "nsga2", "random"]),
                "seeds": st.integers(1, 5) | st.just([4, 2]),
                "baselines": st.sampled_from([[], ["lora", "fft"]]),
            },
        ),
        "train": st.sampled_from([{"clip_norm": None}, {"reduction": "mean"}]),
        "resources": st.sampled_from([{"gpus": 0.25}, {"cpus": 2, "threads": 1}]),
        "storage": st.sampled_from([{"root": "no"}, {"study": "sqlite:///x.db", "keep_weights": "all"}]),
    },
)  # fmt: skip


@given(specs.filter(has_enough_points))
def test_a_spec_that_is_dumped_reads_back_equal(values: dict[str, Any]) -> None:
    spec = SweepSpec.model_validate(values)
    assert parse(dump(spec)) == spec
    assert dump(parse(dump(spec))) == dump(spec)
    assert json.loads(json.dumps(spec.identity())) == spec.identity()


@pytest.mark.parametrize(
    "text",
    [
        "search: {trials: 99, max_failures: 2, reference: {accuracy: 0.5}}",
        "resources: {gpus: 0.5, max_concurrent: 3}",
        "storage: {root: elsewhere, keep_weights: all}",
    ],
)
def test_budget_resources_and_storage_may_change_in_a_sweep(text: str) -> None:
    assert difference(parse("name: x").identity(), parse(f"name: x\n{text}").identity()) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("space: {rank: 8}", "space.rank: was {'low': 4, 'high': 128, 'log': True}, is now 8"),
        ("space: {rank: {low: 8}}", "space.rank.low: was 4, is now 8"),
        ("search: {seeds: 3}", "search.seeds: was 1, is now 3"),
        ("search: {sampler: gp}", "search.sampler: was tpe, is now gp"),
        ("groups: cell", "groups: was class, is now cell"),
        ("train: {reduction: mean}", "train.reduction: was sum, is now mean"),
        (
            "objectives: {delta_f1: min, accuracy: max}",
            "objectives: was ['accuracy: max', 'delta_f1: min'], is now ['delta_f1: min', 'accuracy: max']",
        ),
    ],
)
def test_what_makes_trials_incomparable_is_told_as_a_difference(text: str, line: str) -> None:
    assert difference(parse("name: x").identity(), parse(f"name: x\n{text}").identity()) == [line]


def test_a_spec_with_changes_is_checked_like_a_written_one() -> None:
    spec = parse("name: x")
    assert changed(spec, {"search.trials": 64, "name": "y"}) == parse("name: y\nsearch: {trials: 64}")
    with pytest.raises(Faults, match=r"^search\.trials is 0\. Use 1 or more\.$"):
        changed(spec, {"search.trials": 0})
    with pytest.raises(Faults, match="Did you mean 'search'"):
        changed(spec, {"serch.trials": 3})


def test_the_reference_of_the_spec_goes_before_the_worst_values() -> None:
    spec = parse("name: x\nobjectives: {accuracy: max, loss: min}\nsearch: {reference: {loss: 2.5}}")
    assert spec.reference == {"accuracy": 0.0, "loss": 2.5}


def test_a_spec_made_in_python_is_held_to_the_same_rules() -> None:
    assert SweepSpec(name="x", search=Search(trials=3)).search.trials == 3
    with pytest.raises(ValidationError, match="not below the budget"):
        SweepSpec(name="x", search=Search(sampler="nsga2", trials=8, population=8))


@pytest.mark.parametrize("written", ["2024", "1e3", "007", "1.5", "true", ".inf"])
def test_a_name_that_yaml_reads_as_something_else_belongs_in_quotes(written: str) -> None:
    (line,) = told(f"name: {written}\n")
    assert line.endswith("YAML reads that as a number or a truth value: put the name in quotes.")
    if written != ".inf":
        assert parse(f"name: '{written}'\n").name == written


@pytest.mark.parametrize(
    "hub", ["hf-hub:", "hf_hub:", "timm:hf-hub:", "open_clip:hf-hub:", "https://hub/", "local-dir:/", ""]
)
def test_a_model_is_named_and_not_its_address(hub: str) -> None:
    (line,) = told(f"name: a\nbackbone: {{name: '{hub}timm/resnet50.a1'}}\n")
    assert "Name the model, not its address, as in 'timm:resnet50.a1'" in line


@given(st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1))
def test_any_name_of_a_folder_gets_through_the_url_of_its_database(name: str) -> None:
    file = Path("/sweeps") / name / "study.db"
    url = urls.sqlite_url(file)
    assert urls.sqlite_file(url) == file
    assert sa.make_url(url).database == str(file)


@pytest.mark.parametrize(
    ("written", "chosen", "why"),
    [
        ("space: {method: lora, rank: [4, 8, 16], learning_rate: 0.001}\nsearch: {sampler: auto, trials: 3}",
         "grid", "all 3 points"),
        ("search: {sampler: auto, seeds: 3}", "gp", "take out the luck"),
        ("search: {sampler: auto, seeds: {start: 1, most: 5}, baselines: [lora]}", "gp", "about 31 trials"),
        ("search: {sampler: auto, seeds: {start: 1, most: 5}, budget: {fits: 200}}", "gp", "about 80 trials"),
        ("search: {sampler: auto, seeds: {start: 3, most: 8}, budget: {fits: 128}}", "gp", "about 18 trials"),
        ("search: {sampler: auto}", "tpe", "luck"),
        ("search: {sampler: auto, seeds: 3, trials: 200}", "tpe", "beyond 150"),
        ("search: {sampler: auto, seeds: 3, trials: 16}\nresources: {max_concurrent: 8}", "random", "8 fits at once"),
    ],
)  # fmt: skip
def test_auto_stands_for_a_sampler_and_says_why(written: str, chosen: str, why: str) -> None:
    spec = parse(f"name: x\n{written}\n")
    assert spec.search.sampler == chosen
    assert why in (spec.search.auto or "")
    assert f"auto is {chosen}" in (spec.search.auto_note or "")
    assert parse(dump(spec)) == spec


def test_what_auto_chose_stays_when_a_sweep_is_amended() -> None:
    spec = parse("name: x\nsearch: {sampler: auto, seeds: 3}")
    larger, changes = amended(spec, parse("name: x\nsearch: {sampler: auto, seeds: 3, trials: 200}"))
    assert (larger.search.sampler, larger.search.auto) == ("gp", spec.search.auto)
    assert changes == ["search.trials: was 32, is now 200"]


@pytest.mark.parametrize(
    "budget",
    ["{}", "{hours: 0}", "{fits: 1.5}", "{cost: 5}", "{per_gpu_hour: 2}", "{days: 1}", "8", "{hours: .inf}"],
)
def test_a_budget_that_bounds_nothing_is_refused_with_those_there_are(budget: str) -> None:
    with pytest.raises(Faults, match=r"search\.budget") as caught:
        parse(f"name: x\nsearch: {{budget: {budget}}}")
    assert "Use {fits: 200}, {hours: 8}, {gpu_hours: 20} or {cost: 50, per_gpu_hour: 2.5}" in str(caught.value)


def test_where_a_budget_in_time_decides_trials_may_be_left_out() -> None:
    assert parse("name: x\nsearch: {budget: {hours: 8}}").budget == 1000
    assert parse("name: x\nsearch: {budget: {hours: 8}, trials: 40}").budget == 40
    assert parse("name: x\nsearch: {budget: {hours: 8, fits: 60}}").budget == 60
    raced = parse("name: x\nsearch: {budget: {fits: 60}, seeds: {start: 3, most: 5}}")
    assert raced.budget == parse("name: x\nsearch: {budget: {fits: 60}, seeds: [1, 2, 4]}").budget == 20
    assert not raced.search.counted
