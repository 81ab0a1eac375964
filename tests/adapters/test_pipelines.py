import types

import adapter_example
import numpy as np
from PIL import Image
import pytest

from jmia import adapters, datasets

_TEXTS = np.array(["one", "two words", "three more words"] * 4)
_Y = np.arange(12) % 3


def _text_dataset():
  embeddings = np.random.default_rng(0).random((12, 4))
  labels = np.array(["few", "many", "some"])[[0, 2, 1]][_Y]
  return datasets.from_arrays(embeddings, labels)._replace(given=_TEXTS)


def _pipeline(names, asked):
  """As transformers' own: best label first, each with its score."""

  def run(inputs, top_k, batch_size):
    assert top_k >= 3
    asked.append((inputs, batch_size))
    found = []
    for text in inputs:
      scores = np.eye(3)[len(text.split()) - 1] * 0.7 + 0.1
      rows = [{"label": n, "score": s} for n, s in zip(names, scores, strict=True)]
      found.append(sorted(rows, key=lambda row: -row["score"]))
    return found

  return run


@pytest.mark.parametrize(
  "names", [["few", "some", "many"], ["LABEL_0", "LABEL_2", "LABEL_1"]]
)
def test_texts(names):
  dataset, asked = _text_dataset(), []
  predict = adapters.from_pipeline(_pipeline(names, asked), dataset, batch_size=5)
  found = predict(dataset.given)
  np.testing.assert_allclose(found, np.eye(3)[dataset.y] * 0.7 + 0.1)
  assert asked == [(_TEXTS.tolist(), 5)]


def test_a_pipeline_of_transformers():
  """A small network of random weights, of texts in a vocabulary of three words."""
  transformers = pytest.importorskip("transformers")
  torch = pytest.importorskip("torch")
  tokenizers = pytest.importorskip("tokenizers")
  words = {"[PAD]": 0, "[UNK]": 1, "one": 2, "two": 3, "three": 4}
  splitter = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
  splitter.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=splitter, pad_token="[PAD]", unk_token="[UNK]"
  )
  names = ["some", "few", "many"]
  config = transformers.BertConfig(
    vocab_size=5,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=1,
    intermediate_size=8,
    id2label=dict(enumerate(names)),
    label2id={name: i for i, name in enumerate(names)},
  )
  torch.manual_seed(0)
  model = transformers.BertForSequenceClassification(config).eval()
  model.classifier.weight.data *= 200  # so that answers differ
  dataset = _text_dataset()
  predict = adapters.from_pipeline(
    transformers.pipeline("text-classification", model=model, tokenizer=tokenizer),
    dataset,
  )
  batch = tokenizer(_TEXTS.tolist(), padding=True, return_tensors="pt")
  with torch.no_grad():
    logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
  expected = torch.softmax(logits, 1).numpy()[
    :, [names.index(n) for n in dataset.class_names]
  ]
  np.testing.assert_allclose(predict(_TEXTS), expected, atol=1e-5)
  assert np.ptp(expected) > 0.1


class _OneOutput:
  """As transformers' pipeline of a model with num_labels=1."""

  def __init__(self, label, problem_type=None, function=None):
    self.label = label
    config = types.SimpleNamespace(problem_type=problem_type, num_labels=1)
    self.model = types.SimpleNamespace(config=config)
    self._postprocess_params = (
      {} if function is None else {"function_to_apply": function}
    )

  def __call__(self, inputs, top_k, batch_size):
    return [[{"label": self.label, "score": len(text) / 16}] for text in inputs]


def _two_classes(labels=("no", "yes")):
  embeddings = np.random.default_rng(0).random((12, 4))
  given = np.array(labels)[np.arange(12) % 2]
  return datasets.from_arrays(embeddings, given)._replace(given=_TEXTS)


@pytest.mark.parametrize(
  ("label", "function", "column"),
  [
    ("LABEL_0", None, 1),
    ("yes", "sigmoid", 1),
    ("no", types.SimpleNamespace(value="sigmoid"), 0),
  ],
)
def test_one_output_of_two_classes(label, function, column):
  """`LABEL_0`, the only one, is class 1: its probability was taken for class 0's."""
  pipeline = _OneOutput(label, function=function)
  found = adapters.from_pipeline(pipeline, _two_classes())(_TEXTS)
  expected = np.array([len(text) for text in _TEXTS]) / 16
  np.testing.assert_allclose(found[:, column], expected)
  np.testing.assert_allclose(found.sum(1), 1)


@pytest.mark.parametrize(
  ("pipeline", "dataset"),
  [
    (_OneOutput("LABEL_0", "regression"), _two_classes()),
    (_OneOutput("LABEL_0", function="none"), _two_classes()),
    (lambda *args, **options: _OneOutput("LABEL_0")(*args, **options), _two_classes()),
    (_OneOutput("LABEL_0"), _text_dataset()),
  ],
)
def test_one_output_that_is_no_probability_of_two(pipeline, dataset):
  predict = adapters.from_pipeline(pipeline, dataset)
  with pytest.raises(ValueError, match=r"scores one label, 0: expected all \d classes"):
    predict(_TEXTS)


def test_one_output_of_another_name():
  predict = adapters.from_pipeline(_OneOutput("toxic"), _two_classes())
  with pytest.raises(ValueError, match="classes are toxic, expected some of"):
    predict(_TEXTS)


@pytest.mark.parametrize("function", ["sigmoid", "none"])
def test_one_output_of_transformers(function):
  """The attributes that are looked at are there, whatever its version calls them."""
  transformers = pytest.importorskip("transformers")
  pytest.importorskip("torch")
  tokenizers = pytest.importorskip("tokenizers")
  splitter = tokenizers.Tokenizer(
    tokenizers.models.WordLevel({"[PAD]": 0, "[UNK]": 1, "one": 2}, unk_token="[UNK]")
  )
  tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=splitter, pad_token="[PAD]", unk_token="[UNK]"
  )
  config = transformers.BertConfig(
    vocab_size=3,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=1,
    intermediate_size=8,
    num_labels=1,
  )
  pipeline = transformers.pipeline(
    "text-classification",
    model=transformers.BertForSequenceClassification(config).eval(),
    tokenizer=tokenizer,
    function_to_apply=function,
  )
  predict = adapters.from_pipeline(pipeline, _two_classes())
  if function == "none":
    with pytest.raises(ValueError, match="scores one label"):
      predict(_TEXTS)
    return
  expected = pipeline("one", top_k=None)[0]["score"]
  np.testing.assert_allclose(predict(_TEXTS)[0], [1 - expected, expected], rtol=1e-5)


def test_images():
  images = np.random.default_rng(0).integers(256, size=(6, 5, 4, 3), dtype=np.uint8)
  dataset = datasets.from_arrays(images, [0, 1] * 3)

  def pipeline(inputs, top_k, batch_size):
    assert all(isinstance(image, Image.Image) for image in inputs)
    means = [np.asarray(image).mean() / 255 for image in inputs]
    return [[{"label": "1", "score": m}, {"label": "0", "score": 1 - m}] for m in means]

  found = adapters.from_pipeline(pipeline, dataset)(images)
  np.testing.assert_allclose(found[:, 1], images.mean((1, 2, 3)) / 255, rtol=1e-6)


def test_all_classes_of_many_are_asked_for():
  """As a pipeline of images answers: the five best, if not told a number."""
  images = np.random.default_rng(0).integers(256, size=(14, 5, 4, 3), dtype=np.uint8)
  dataset = datasets.from_arrays(images, np.arange(14) % 7)
  scores = np.random.default_rng(1).dirichlet(np.ones(7), 14)

  def pipeline(inputs, top_k, batch_size):
    num = 5 if top_k is None else min(top_k, 7)
    order = np.argsort(-scores, axis=1)[:, :num]
    return [
      [{"label": str(c), "score": row[c]} for c in best]
      for row, best in zip(scores, order, strict=True)
    ]

  found = adapters.from_pipeline(pipeline, dataset)(images)
  np.testing.assert_allclose(found, scores, rtol=1e-6)


def test_what_is_no_answer():
  dataset = _text_dataset()
  predict = adapters.from_pipeline(_pipeline(["x", "y", "z"], []), dataset)
  with pytest.raises(ValueError, match="classes are x, y, z"):
    predict(_TEXTS)

  def best(inputs, top_k, batch_size):
    return [[row[0]] for row in _pipeline(["few", "some", "many"], [])(inputs, 3, 1)]

  with pytest.raises(ValueError, match="scores other labels for other inputs"):
    adapters.from_pipeline(best, dataset)(_TEXTS)
  with pytest.raises(ValueError, match="expected texts or uint8 images"):
    predict(adapter_example.X)
