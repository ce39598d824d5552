# Fills in a template with the version and the commit, in every build:
#     cmake -D SOURCE=... -D VERSION=... -D TEMPLATE=... -D OUTPUT=... [-D NAME=VALUE ...] -P version.cmake
# OUTPUT is only written if its text changes, so a build after a new commit compiles one small file.
set(DTRAIN_VERSION_TEXT ${VERSION})
if(EXISTS ${SOURCE}/.git) # without this, git would describe a repository around the sources
    execute_process(COMMAND git --no-optional-locks -C ${SOURCE} describe --always --dirty --exclude=*
        OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    if(commit)
        string(APPEND DTRAIN_VERSION_TEXT " (${commit})")
    endif()
endif()
if(OUTPUT MATCHES "\\.cpp$")
    configure_file(${TEMPLATE} ${OUTPUT} @ONLY)
else()
    configure_file(${TEMPLATE} ${OUTPUT} @ONLY FILE_PERMISSIONS
        OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
endif()
