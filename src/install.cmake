# The installed tree. Programs are in bin and man pages in share/man. share/dtrain is laid out like the repository:
# scripts find their modules there, and links between documents work. Programs, scripts and links find everything by
# relative paths, so the tree may be moved.
set(programs dtrain dtrain-eval dtrain-bench)
get_property(python_programs GLOBAL PROPERTY DTRAIN_PYTHON_PROGRAMS)

# Libraries in unusual places, such as modules of a cluster, are found without LD_LIBRARY_PATH.
set_target_properties(${programs} PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
install(TARGETS ${programs} DESTINATION bin)
foreach(program ${python_programs})
    install(PROGRAMS ${PROJECT_BINARY_DIR}/install/bin/${program} DESTINATION bin)
endforeach()
install(DIRECTORY src/report src/export DESTINATION share/dtrain/src FILES_MATCHING PATTERN *.py PATTERN *.css PATTERN *.j2
    PATTERN *.js PATTERN __pycache__ EXCLUDE)

install(DIRECTORY configs DESTINATION share/dtrain FILES_MATCHING PATTERN *.ini PATTERN __pycache__ EXCLUDE)
install(FILES slurm/common.sh slurm/job.sh DESTINATION share/dtrain/slurm)
install(PROGRAMS slurm/scaling.sh slurm/train.sbatch slurm/sweep.sbatch slurm/scaling.sbatch
    DESTINATION share/dtrain/slurm)
# Without the variable DTRAIN_PYTHON, scripts in Python start with the same Python as dtrain-report.
foreach(script configs/spoken_digits.py slurm/scaling.py)
    file(READ ${script} text)
    if(DTRAIN_PYTHON)
        string(REPLACE "DTRAIN_PYTHON:-/usr/bin/python3}" "DTRAIN_PYTHON:-${DTRAIN_PYTHON}}" text "${text}")
    endif()
    file(WRITE ${PROJECT_BINARY_DIR}/install/${script} "${text}")
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${script})
    cmake_path(GET script PARENT_PATH folder)
    install(PROGRAMS ${PROJECT_BINARY_DIR}/install/${script} DESTINATION share/dtrain/${folder})
endforeach()

# share/doc/dtrain has links, so that its documents find each other.
set(documents CHANGELOG.md CONTRIBUTING.md LICENSE README.md configs/README.md configs/TUTORIAL.md
    configs/published/README.md slurm/README.md src/README.md src/io/README.md tests/README.md)
foreach(document ${documents})
    cmake_path(GET document PARENT_PATH folder)
    install(FILES ${document} DESTINATION share/dtrain/${folder})
    string(REGEX REPLACE "/.*" "" link ${document})
    list(APPEND links ${link})
endforeach()
list(REMOVE_DUPLICATES links)
file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/install/doc ${PROJECT_BINARY_DIR}/install/man)
foreach(link ${links})
    file(CREATE_LINK ../../dtrain/${link} ${PROJECT_BINARY_DIR}/install/doc/${link} SYMBOLIC)
    install(FILES ${PROJECT_BINARY_DIR}/install/doc/${link} DESTINATION share/doc/dtrain)
endforeach()
install(FILES LICENSE DESTINATION share/doc/dtrain RENAME copyright) # the name that Debian asks for

# One completion for all programs. Bash loads a file by the name of the command.
set(completions share/bash-completion/completions)
install(FILES src/apps/completion.bash DESTINATION ${completions} RENAME dtrain)
foreach(program dtrain-eval dtrain-bench ${python_programs})
    file(CREATE_LINK dtrain ${PROJECT_BINARY_DIR}/install/${program} SYMBOLIC)
    install(FILES ${PROJECT_BINARY_DIR}/install/${program} DESTINATION ${completions})
endforeach()

# Man pages come from --help. So they need Python, and programs that run on the machine that builds them.
if(DTRAIN_PYTHON AND NOT CMAKE_CROSSCOMPILING)
    foreach(program ${programs} ${python_programs})
        set(page ${PROJECT_BINARY_DIR}/install/man/${program}.1)
        set(others ${programs} ${python_programs})
        list(REMOVE_ITEM others ${program})
        add_custom_command(OUTPUT ${page} VERBATIM
            COMMAND ${DTRAIN_PYTHON} ${PROJECT_SOURCE_DIR}/src/apps/man_page.py ${page}
                ${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/${program} ${others}
            DEPENDS ${program} ${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/${program} src/apps/man_page.py)
        list(APPEND pages ${page})
    endforeach()
    add_custom_target(dtrain_man_pages ALL DEPENDS ${pages})
    install(FILES ${pages} DESTINATION share/man/man1)
else()
    message(STATUS "No man pages: they need Python and a build that is not cross-compiled")
endif()

# `cpack` in the build folder makes a package for this version of Debian. It needs /usr/bin/python3 as DTRAIN_PYTHON.
file(WRITE ${PROJECT_BINARY_DIR}/install/prerm
    "#!/bin/sh\n# Python may have put compiled modules next to their sources.\n"
    "rm -rf /usr/share/dtrain/src/report/__pycache__ /usr/share/dtrain/src/export/__pycache__\n")
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGE_CONTACT "The dtrain authors")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
    "dtrain trains networks on MNIST and similar data, in parallel on CPU cores and
cluster nodes, with MPI. The trained weights are bitwise identical for any
number of ranks, and a killed run resumes without changing them.")
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS
    "openmpi-bin, python3 (>= 3.11), python3-h5py, python3-matplotlib, python3-jinja2, python3-onnx, python3-xxhash")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "slurm-client, espeak-ng")
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${PROJECT_BINARY_DIR}/install/prerm)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
include(CPack)
