package main

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// scripted serves; before the answer it asks what becomes of the nth call.
func scripted(t *testing.T, outcome func(n uint64) error) (address string, calls *atomic.Uint64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	calls = new(atomic.Uint64)
	answer := encodeAnswer("EMBEDDING", 4, false)
	server := grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		var request []byte
		if err := stream.RecvMsg(&request); err != nil {
			return err
		}
		if err := outcome(calls.Add(1)); err != nil {
			return err
		}
		return stream.SendMsg(&answer)
	}))
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return listener.Addr().String(), calls
}

func every(n uint64, code codes.Code) func(uint64) error {
	return func(call uint64) error {
		if call%n == 0 {
			return status.Error(code, "as it was told")
		}
		return nil
	}
}

func TestRefusalsAreNoErrors(t *testing.T) {
	address, _ := scripted(t, every(4, codes.ResourceExhausted))
	report := loadgen(t, "--protocol", "grpc", "--model", "m", "--target", address, "--payloads", writePayloads(t, `"a"`),
		"--clients", "1", "--warmup", "0s", "--max-requests", "40")
	if report.Right != 30 || report.Refused != 10 || report.Errors != 0 || report.RefusedAfter == nil || len(report.RefusedHist) == 0 {
		t.Errorf("%+v", report)
	}
}

func TestTheDocumentedClientTakesTurnsAndRetriesWhatIsUnavailable(t *testing.T) {
	broken, asked := scripted(t, every(2, codes.Unavailable))
	other, askedToo := scripted(t, every(1_000_000, codes.Unavailable))
	report := loadgen(t, "--protocol", "grpc", "--model", "m", "--target", broken+","+other, "--documented", "--payloads",
		writePayloads(t, `"a"`), "--clients", "2", "--warmup", "0s", "--max-requests", "60")
	if report.Right != 60 || report.Errors != 0 || report.Retries == 0 {
		t.Errorf("%+v", report)
	}
	if asked.Load()+askedToo.Load() != 60+report.Retries || asked.Load() < 15 || askedToo.Load() < 15 {
		t.Errorf("%d and %d calls with %d retries", asked.Load(), askedToo.Load(), report.Retries)
	}
}

func TestTheDocumentedClientRetriesNothingElse(t *testing.T) {
	address, calls := scripted(t, every(2, codes.Internal))
	report := loadgen(t, "--protocol", "grpc", "--model", "m", "--target", address, "--documented", "--payloads",
		writePayloads(t, `"a"`), "--clients", "1", "--warmup", "0s", "--max-requests", "10")
	if report.Right != 5 || report.Errors != 5 || report.Retries != 0 || calls.Load() != 10 {
		t.Errorf("%+v", report)
	}
}

func TestASureAnswerIsOneAndNaughts(t *testing.T) {
	if sure := encodeAnswer("P", 3, true); strings.Count(string(sure), "\x80\x3f") != 1 {
		t.Errorf("%x", sure)
	}
}
