import jax
import pytest

from experiments.benchmarks import compiled

_PROGRAM = """
%body.1 (arg: (f32[2,3])) -> f32[2,3] {
  %x = f32[2,3]{1,0} parameter(0)
  %f.1 = f32[2,3]{1,0} fusion(%x), kind=kLoop
  ROOT %g = bf16[4]{0} custom-call(%f.1, %x), custom_call_target="gemm"
}

ENTRY %main (x: f32[2,3]) -> f32[2,3] {
  %w = f32[2,3] while(%x), body=%body.1, backend_config={"known_trip_count":{"n":"7"}}
}
"""


def test_kernels_and_bytes_of_a_loop():
  # 24 bytes read and written by the first; twice 24 read and 8 written by the second.
  assert list(compiled.loops(_PROGRAM)) == [compiled.Loop(7, 2, 48 + 56)]
  # The loop itself is no kernel.
  assert compiled.entry(_PROGRAM) == compiled.Loop(1, 0, 0)
  assert compiled.transfers(_PROGRAM) == 0


def test_what_reaches_out_to_the_host_is_counted():
  """Lines as XLA writes them, of an array put there, a debug print and an outfeed."""
  lines = (
    "  copy.1 = f32[8]{0:S(5)} copy(f32[8]{0} p)",
    '  c = () custom-call(p), custom_call_target="xla_ffi_python_gpu_callback"',
    "  o = token[] outfeed(p, token)",
    "  k = f32[8]{0} copy(f32[8]{0} p)",
  )
  assert compiled.transfers("\n".join(lines)) == 3


def test_without_the_wheels_the_suite_says_so(monkeypatch):
  monkeypatch.setattr(compiled, "is_possible", lambda: False)
  with pytest.raises(ValueError, match="needs the CUDA wheels"):
    compiled.rows()


def _small(program):
  """The same for two models with few members, where a step is as any other."""
  shapes = program.job
  num_members = min(1_280, shapes.member_idx.shape[0])
  fewer = {
    name: jax.ShapeDtypeStruct((num_members, *leaf.shape[1:]), leaf.dtype)
    for name, leaf in shapes._asdict().items()
    if leaf.shape[:1] == shapes.member_idx.shape
  }
  return program._replace(job=shapes._replace(**fewer), width=2)


@pytest.mark.parametrize("program", compiled.recipes()[-2:], ids=lambda p: p.name)
def test_jobs_and_data_of_shapes_fit_their_recipes(program):
  """Which needs no CUDA wheels; those of `plain` are traced wherever it trains."""
  small = _small(program)
  with compiled._as_on_gpu(small):
    recipe = small.recipe()
    state = jax.eval_shape(recipe.init, jax.random.key(0), small.job)
    state, metrics = jax.eval_shape(recipe.update, state, small.job, small.data)
  assert state.epoch.shape == metrics["loss"].shape == ()


@pytest.mark.cuda
@pytest.mark.skipif(not compiled.is_possible(), reason="the CUDA wheels are absent")
@pytest.mark.parametrize(
  "program", [*compiled.recipes(), *compiled.networks()[:2]], ids=lambda p: p.name
)
def test_every_recipe_compiles_for_an_h100(program):
  row = compiled.row(_small(program)).content()
  assert row["met"] is True
  assert row["host_transfers"] == 0


@pytest.mark.parametrize("score", compiled.scores(), ids=lambda s: s.name)
def test_what_is_scored_of_shapes_is_traced_as_on_a_gpu(score, monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  found = jax.eval_shape(score.function, *score.shapes)
  assert found.shape == score.result


@pytest.mark.cuda
@pytest.mark.skipif(not compiled.is_possible(), reason="the CUDA wheels are absent")
@pytest.mark.parametrize("score", compiled.scores(), ids=lambda s: s.name)
def test_every_score_compiles_for_an_h100(score):
  row = compiled.row_of_score(score).content()
  assert row["met"] is True
  assert row["host_transfers"] == 0
  # The losses are read, which are 80 MB.
  assert row["mb_per_step"] > (80 if " P, " not in score.name else 0.08)
