"""Flags that most binaries take, and the refusal of those that would be ignored.

A flag that several binaries take is defined here, once. Each shows it in its help by
`flags.adopt_module_key_flags(common_flags)` or `flags.declare_key_flag(name)`.
"""

from collections.abc import Iterable, Mapping, Sequence

from absl import flags

from jmia import datasets

from . import runs

flags.adopt_module_key_flags(runs)
SEED = flags.DEFINE_integer(
  "seed",
  0,
  "Seed of every random draw; the same seed repeats a run, on a GPU up to rounding.",
  lower_bound=0,
  upper_bound=2**32 - 1,  # of larger ones JAX takes the lower 32 bits
)
OUTPUT_DIR = flags.DEFINE_string(
  "output_dir", None, "Folder for the results; made if absent."
)
DATA_DIR = flags.DEFINE_string(
  "data_dir",
  None,
  "TFDS's data folder; original archives are found in its downloads/manual/. Default:"
  " TFDS's own, ~/tensorflow_datasets.",
)
DATASET = flags.DEFINE_string(
  "dataset",
  None,
  f"{', '.join(datasets.names())}, npz:PATH with x and y, folder:PATH of images and a"
  " CSV or a folder for each class, or table:PATH?target=NAME, a CSV or Parquet file."
  " Default: the command's own.",
)
NUM_EXAMPLES = flags.DEFINE_integer(
  "num_examples", None, "Rows to generate of a synthetic dataset. Default: its own."
)
WIDTH = flags.DEFINE_integer(
  "width", None, "Models trained at once. Default: as many as memory is good for."
)
COMPILATION_CACHE = flags.DEFINE_string(
  "compilation_cache",
  "~/.cache/jmia/xla",
  "Folder of compiled programs, so that a second run compiles nothing; '' for none.",
)
MATMUL_PRECISION = flags.DEFINE_enum(
  "matmul_precision",
  "float32",
  ["float32", "tensorfloat32", "bfloat16"],
  "Of float32 matrix products on an accelerator; a CPU's are always float32. An"
  " NVIDIA GPU is faster by tensorfloat32, which keeps 10 bits of each factor.",
)
CPU_DEVICES = flags.DEFINE_integer(
  "cpu_devices",
  None,
  "Devices that a CPU is split into; each trains models of its own. Default: as many as"
  " it has cores, or 1 with --distributed. Fewer take less memory.",
  lower_bound=1,
)
DISTRIBUTED = flags.DEFINE_string(
  "distributed",
  None,
  "Train on the devices of several processes, each started with the same flags: auto"
  " on a TPU pod, under SLURM, Open MPI or Kubernetes, else HOST:PORT,PROCESSES,ID of"
  " process 0's address, their number and this one's. All must see --output_dir.",
)

# What `launch.run` itself reads, whatever the binary.
OF_RUN = (COMPILATION_CACHE, MATMUL_PRECISION, CPU_DEVICES, DISTRIBUTED)


def refuse(names: Iterable[str], because: str) -> None:
  """Refuses flags that what was asked for would ignore.

  Args:
    names: of flags.
    because: the rest of the sentence that they begin.

  Raises:
    ValueError: one of them was given.
  """
  given = [f"--{name}" for name in names if flags.FLAGS[name].present]
  if given:
    raise ValueError(f"{', '.join(given)} {because}")


def refuse_of_others(choice: str, chosen: str, of: Mapping[str, Sequence[str]]) -> None:
  """Refuses flags that are read where another value of a flag is chosen.

  Args:
    choice: the flag's name, such as "study".
    chosen: its value.
    of: names of flags by the value that reads them.

  Raises:
    ValueError: one that the chosen value does not read was given.
  """
  read = of.get(chosen, ())
  for value, names in of.items():
    rest = [name for name in names if name not in read]
    refuse(rest, f"is for --{choice}={value} and is not read with {chosen}")
