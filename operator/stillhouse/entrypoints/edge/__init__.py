"""`still edge` and `still ask`: a gateway on this machine. No torch, no Triton, no gRPC library is loaded here."""
