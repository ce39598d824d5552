# Finds MPI and the mpiexec that belongs to it. If several MPI libraries are installed, FindMPI may take the compiler
# wrapper of one and the mpiexec of another. Each process would then be a run of its own.
if(MPI_C_COMPILER AND NOT MPIEXEC_EXECUTABLE)
    # mpicc.mpich is next to mpiexec.mpich, and mpicc next to mpiexec.
    find_program(MPI_C_WRAPPER ${MPI_C_COMPILER} NO_CACHE)
    get_filename_component(folder "${MPI_C_WRAPPER}" DIRECTORY)
    get_filename_component(suffix "${MPI_C_WRAPPER}" EXT)
    find_program(MPIEXEC_EXECUTABLE NAMES mpiexec${suffix} mpirun${suffix} PATHS ${folder} NO_DEFAULT_PATH)
endif()
find_package(MPI REQUIRED COMPONENTS C)

if(MPIEXEC_EXECUTABLE AND NOT CMAKE_CROSSCOMPILING)
    set(CMAKE_REQUIRED_LIBRARIES MPI::MPI_C)
    include(CheckSymbolExists)
    check_symbol_exists(OPEN_MPI mpi.h DTRAIN_HAS_OPEN_MPI)
    unset(CMAKE_REQUIRED_LIBRARIES)
    execute_process(COMMAND ${MPIEXEC_EXECUTABLE} --version OUTPUT_VARIABLE version ERROR_VARIABLE version)
    if((version MATCHES "Open MPI|OpenRTE|PRRTE" AND NOT DTRAIN_HAS_OPEN_MPI) OR
            (version MATCHES "HYDRA|MPICH|Intel" AND DTRAIN_HAS_OPEN_MPI))
        string(REGEX MATCH "^[^\n]*" version "${version}")
        message(FATAL_ERROR "${MPIEXEC_EXECUTABLE} (${version}) belongs to another MPI than the headers in "
            "${MPI_C_INCLUDE_DIRS}. Give both: -D MPI_C_COMPILER=MPICC -D MPIEXEC_EXECUTABLE=MPIEXEC")
    endif()
endif()
