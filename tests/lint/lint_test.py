# SPDX-License-Identifier: Apache-2.0
"""The lint's own test: what it must find, it finds."""
import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import functions  # noqa: E402
import rooms  # noqa: E402
import weak  # noqa: E402

LONG = "#include <a>\nnamespace n {\n// {\nstruct S : B {\n  int f(int a) const {\n" + "    g(\"}\", '{');\n" * 120 + """  }
  int one() { return 1; }
};
template <class T>
static std::vector<int> two(std::map<int, T> m = {}) {
  auto l = [&](int x) { return x; };
  for (;;) { l(1); }
}
}  // namespace n
"""
found = {name: length for name, _, length in functions.lengths(LONG)}
assert found == {"f": 122, "one": 1, "two": 5}, found

for name, target, allowed in [
    ("kernels/a.cpp", "core/base/json.h", False),
    ("core/nn/a.cpp", "kernels/gemm.h", True),
    ("core/base/a.cpp", "core/tensor/a.h", False),
    ("core/train/a.cpp", "core/quant/a.h", False),
    ("core/train/a.cpp", "core/models/a.h", True),
    ("data/a.cpp", "core/base/file.h", True),
    ("data/a.cpp", "parallel/a.h", False),
    ("data/a.cpp", "kernels/gemm.h", False),
    ("data/a.cpp", "kernels/error.h", True),
    ("serve/a.cpp", "safety/a.h", False),
    ("safety/a.cpp", "serve/a.h", False),
    ("cmd/a.cpp", "serve/a.h", True),
]:
    assert (rooms.room_breach(name, target) is None) == allowed, (name, target)

with tempfile.TemporaryDirectory() as folder:
    assert len(list(rooms.check_includes(folder, "serve/a.cpp", "#include <CLI/CLI.hpp>\n#include \"x.h\"\n"))) == 2
    assert not list(rooms.check_includes(folder, "cmd/a.cpp", "#include <CLI/CLI.hpp>\n#include <vector>\n"))
    os.makedirs(f"{folder}/CMakeFiles/kernels_2.dir")
    with open(f"{folder}/a.cpp", "w", encoding="utf-8") as out:
        out.write("namespace kn { namespace avx512 { inline int own() { return 1; } }\n"
                  "inline int everybodys() { return 2; }\nint use() { return avx512::own() + everybodys(); } }\n")
    compiler = os.environ.get("CXX", "c++")
    assert os.system(f"{compiler} -O0 -c {folder}/a.cpp -o {folder}/CMakeFiles/kernels_2.dir/a.cpp.o") == 0
    breaches = list(weak.check(folder))
    assert len(breaches) == 1 and "everybodys" in breaches[0], breaches
print("lint finds what it must")
