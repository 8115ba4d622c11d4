package main

import (
	"flag"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
)

func serveCommand(arguments []string) error {
	flags := flag.NewFlagSet("loadgen serve", flag.ContinueOnError)
	address := flags.String("listen", "", "loopback host:port")
	output := flags.String("output", "EMBEDDING", "name of the FP32 output")
	floats := flags.Int("floats", 64, "its length")
	delay := flags.Duration("delay", 0, "how long an answer takes")
	procs := flags.Int("procs", 1, "GOMAXPROCS")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	runtime.GOMAXPROCS(*procs)
	return serve(*address, *output, *floats, *delay)
}

// serve answers every unary call with one FP32 tensor of `floats` ones: a backend that costs next to nothing, so that what is
// measured is what stands before it.
func serve(address, output string, floats int, delay time.Duration) error {
	address, err := loopbackAddress(address)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	answer := encodeAnswer(output, floats)
	server := grpc.NewServer(
		grpc.ForceServerCodecV2(rawCodec{}),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			var request []byte
			if err := stream.RecvMsg(&request); err != nil {
				return err
			}
			if delay > 0 {
				time.Sleep(delay)
			}
			return stream.SendMsg(&answer)
		}),
	)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	go func() {
		<-stop
		server.GracefulStop()
	}()
	return server.Serve(listener)
}

// encodeAnswer builds a ModelInferResponse with one raw FP32 tensor of shape [1, floats], each of its values 1.
func encodeAnswer(output string, floats int) []byte {
	shape := protowire.AppendVarint(protowire.AppendVarint(nil, 1), uint64(floats))
	var tensor []byte
	tensor = appendString(tensor, tensorName, output)
	tensor = appendString(tensor, tensorDatatype, datatypeFP32)
	tensor = appendBytes(tensor, tensorShape, shape)
	raw := make([]byte, 0, fp32Bytes*floats)
	for range floats {
		raw = append(raw, 0, 0, 0x80, 0x3f)
	}
	return appendBytes(appendBytes(nil, responseOutputs, tensor), responseRaw, raw)
}
