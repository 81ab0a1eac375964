import io
import tarfile


def write_archive(path, members):
  """Writes {member: text} as a .tgz."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with tarfile.open(path, "w:gz") as tar:
    for name, text in members.items():
      info = tarfile.TarInfo(name)
      data = text if isinstance(text, bytes) else text.encode()
      info.size = len(data)
      tar.addfile(info, io.BytesIO(data))
  return path


def write_table(path, rows, labels):
  """Writes an archive like Texas-100's."""
  feats = "".join(",".join(map(str, row)) + "\n" for row in rows)
  members = {"feats": feats, "labels": "".join(f"{label}\n" for label in labels)}
  return write_archive(path, members)
