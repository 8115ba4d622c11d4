package main

import (
	"flag"
	"math"
	"net"
	"os"
	"os/signal"
	"runtime"
	"sync/atomic"
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
	atOnce := flags.Int("at-once", 0, "answers that are worked on at once, the others wait (0: all)")
	sure := flags.Float64("sure", 0, "share of the answers that are 1, 0, 0, … instead of all ones: a classifier that is sure")
	procs := flags.Int("procs", 1, "GOMAXPROCS")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	runtime.GOMAXPROCS(*procs)
	return serve(*address, *output, *floats, *delay, *atOnce, *sure)
}

// serve answers every unary call with one FP32 tensor of `floats` ones: a backend that costs next to nothing, so that what is
// measured is what stands before it.
func serve(address, output string, floats int, delay time.Duration, atOnce int, sure float64) error {
	address, err := loopbackAddress(address)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	unsureAnswer, sureAnswer := encodeAnswer(output, floats, false), encodeAnswer(output, floats, true)
	var places chan struct{}
	if atOnce > 0 {
		places = make(chan struct{}, atOnce)
	}
	var calls atomic.Uint64
	server := grpc.NewServer(
		grpc.ForceServerCodecV2(rawCodec{}),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			var request []byte
			if err := stream.RecvMsg(&request); err != nil {
				return err
			}
			if places != nil {
				places <- struct{}{}
				defer func() { <-places }()
			}
			if delay > 0 {
				time.Sleep(delay)
			}
			answer := &unsureAnswer
			if n := float64(calls.Add(1)); math.Floor(n*sure) > math.Floor((n-1)*sure) { // evenly, and the same in every run
				answer = &sureAnswer
			}
			return stream.SendMsg(answer)
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

// encodeAnswer builds a ModelInferResponse with one raw FP32 tensor of shape [1, floats]: each of its values 1, or, sure, the first.
func encodeAnswer(output string, floats int, sure bool) []byte {
	shape := protowire.AppendVarint(protowire.AppendVarint(nil, 1), uint64(floats))
	var tensor []byte
	tensor = appendString(tensor, tensorName, output)
	tensor = appendString(tensor, tensorDatatype, datatypeFP32)
	tensor = appendBytes(tensor, tensorShape, shape)
	raw := make([]byte, 0, fp32Bytes*floats)
	for i := range floats {
		if sure && i > 0 {
			raw = append(raw, 0, 0, 0, 0)
		} else {
			raw = append(raw, 0, 0, 0x80, 0x3f)
		}
	}
	return appendBytes(appendBytes(nil, responseOutputs, tensor), responseRaw, raw)
}
