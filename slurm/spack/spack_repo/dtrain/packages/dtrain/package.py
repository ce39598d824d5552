from pathlib import Path

from spack_repo.builtin.build_systems.cmake import CMakePackage, generator

from spack.package import *


class Dtrain(CMakePackage):
    """Trains neural networks on CPU cores and cluster nodes with MPI. The weights are bitwise identical for any number
    of ranks. Training needs no Python; dtrain-report and dtrain-export run with the Python that DTRAIN_PYTHON names, for
    example that of an environment's view with py-h5py, py-matplotlib, py-jinja2, py-onnx and py-xxhash."""

    git = f"file://{Path(__file__).resolve().parents[6]}"  # the clone that contains this recipe

    license("MIT")

    version("main", branch="main")

    generator("ninja")

    depends_on("c", type="build")
    depends_on("cxx", type="build")
    depends_on("cmake@3.25:", type="build")
    depends_on("pkgconfig", type="build")
    depends_on("python@3.11:", type=("build", "run"))
    depends_on("openmpi@4.1:")  # no other MPI is tested
    depends_on("hdf5@1.10:")
    depends_on("openblas@0.3.21:")
    depends_on("boost@1.74: +program_options")
    depends_on("fmt@9:")
    depends_on("nlohmann-json@3.11:")
    depends_on("xxhash@0.8:")
    depends_on("zlib-api")

    conflicts("%gcc@:11", msg="dtrain needs C++20: GCC 12 or newer")

    def cmake_args(self):
        return [self.define("BUILD_TESTING", False), self.define("DTRAIN_PYTHON", self.spec["python"].command.path)]
