"""What measures and shows M13: the demo, the benchmarks, and the bed of namespaces they share."""
