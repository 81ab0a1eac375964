import dataclasses

import pytest

from experiments.benchmarks import compiled, training

_PROGRAM = """
%body.1 (arg: (f32[2,3])) -> f32[2,3] {
  %x = f32[2,3]{1,0} parameter(0)
  %f.1 = f32[2,3]{1,0} fusion(%x), kind=kLoop
  ROOT %g = bf16[4]{0} custom-call(%f.1, %x), custom_call_target="gemm"
}

ENTRY %main {
  %w = f32[2,3] while(%x), body=%body.1, backend_config={"known_trip_count":{"n":"7"}}
}
"""


def test_kernels_and_bytes_of_a_loop():
  # 24 bytes read and written by the first; twice 24 read and 8 written by the second.
  assert list(compiled.loops(_PROGRAM)) == [compiled.Loop(7, 2, 48 + 56)]
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


@pytest.mark.cuda
@pytest.mark.skipif(not compiled.is_possible(), reason="the CUDA wheels are absent")
def test_an_epoch_compiles_for_an_h100():
  case = dataclasses.replace(training.FC, num_members=512)
  row = compiled.row(case, 4, ()).content()
  assert row["met"] is True
  assert row["steps"] == 4
