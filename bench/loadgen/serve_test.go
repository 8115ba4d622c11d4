package main

import (
	"context"
	"net"
	"testing"
	"time"
)

func TestTheBackendAnswersWithWhatTheClientReads(t *testing.T) {
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := probe.Addr().String()
	probe.Close()
	go serve(address, "EMBEDDING", 64, 0, 1, 0)
	client, err := newGRPCTarget([]string{address}, "EMBEDDING", 1, false)
	if err != nil {
		t.Fatal(err)
	}
	defer client.close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var floats []float32
	for {
		floats, err = client.send(ctx, encodeTextRequest("m", "TEXT", "EMBEDDING", "x"), nil)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if len(floats) != 64 || floats[0] != 1 || floats[63] != 1 {
		t.Errorf("got %v", floats)
	}
}

func TestTheBackendListensOnThisMachineAlone(t *testing.T) {
	if err := serve("0.0.0.0:0", "EMBEDDING", 1, 0, 0, 0); err == nil {
		t.Error("it listened to the world")
	}
}
