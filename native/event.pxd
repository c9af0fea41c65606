from native.path.path cimport m13_path, m13_path_config

cdef list drain(m13_path *path)
cdef object fill(m13_path_config *config, settings)
cdef object place_hub(m13_path_config *config, settings)
