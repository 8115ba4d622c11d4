package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
)

// target sends one prepared request and appends the answer's values to dst.
type target interface {
	send(ctx context.Context, request []byte, dst []float32) ([]float32, error)
	close()
}

// Request bodies of the HTTP side. Both are answered with the key "embedding".
const (
	apiPlain  = "plain"  // {"text": T}
	apiOpenAI = "openai" // {"model": M, "input": [T]}
)

func encodeHTTPRequest(api, model, text string) ([]byte, error) {
	if api == apiOpenAI {
		return json.Marshal(struct {
			Model string   `json:"model"`
			Input []string `json:"input"`
		}{model, []string{text}})
	}
	return json.Marshal(struct {
		Text string `json:"text"`
	}{text})
}

type httpTarget struct {
	client  *http.Client
	url     string
	buffers sync.Pool
}

func newHTTPTarget(address, path string, connections int) *httpTarget {
	transport := &http.Transport{
		Proxy:               nil, // the environment's proxy would leave this machine
		MaxIdleConns:        connections,
		MaxIdleConnsPerHost: connections,
		MaxConnsPerHost:     connections,
		DisableCompression:  true,
		IdleConnTimeout:     2 * time.Second, // below uvicorn's 5 s: no request into a connection that is just closing
	}
	return &httpTarget{
		client: &http.Client{
			Transport: transport,
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return fmt.Errorf("redirects are not followed")
			},
		},
		url:     "http://" + address + path,
		buffers: sync.Pool{New: func() any { return new(bytes.Buffer) }},
	}
}

func (t *httpTarget) send(ctx context.Context, body []byte, dst []float32) ([]float32, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, bytes.NewReader(body))
	if err != nil {
		return dst, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := t.client.Do(request)
	if err != nil {
		return dst, err
	}
	defer response.Body.Close()
	buffer := t.buffers.Get().(*bytes.Buffer)
	defer t.buffers.Put(buffer)
	buffer.Reset()
	if _, err := io.Copy(buffer, response.Body); err != nil {
		return dst, err
	}
	if response.StatusCode != http.StatusOK {
		return dst, fmt.Errorf("HTTP %d: %.200s", response.StatusCode, buffer.Bytes())
	}
	return parseEmbedding(buffer.Bytes(), dst)
}

func (t *httpTarget) close() { t.client.CloseIdleConnections() }

// rawCodec passes bytes that are already protobuf. Its name is the one servers expect in the content type.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(message any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*message.(*[]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, message any) error {
	*message.(*[]byte) = data.Materialize()
	return nil
}

type grpcTarget struct {
	connections []*grpc.ClientConn
	next        atomic.Uint64
	output      string
}

func newGRPCTarget(address, output string, connections int) (*grpcTarget, error) {
	t := &grpcTarget{output: output}
	for range connections {
		connection, err := grpc.NewClient(
			"passthrough:///"+address,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithNoProxy(),
			grpc.WithDisableServiceConfig(),
			grpc.WithDisableRetry(), // an error must be counted, not hidden
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})),
		)
		if err != nil {
			t.close()
			return nil, err
		}
		t.connections = append(t.connections, connection)
	}
	return t, nil
}

func (t *grpcTarget) send(ctx context.Context, request []byte, dst []float32) ([]float32, error) {
	connection := t.connections[t.next.Add(1)%uint64(len(t.connections))]
	var response []byte
	if err := connection.Invoke(ctx, inferMethod, &request, &response); err != nil {
		return dst, err
	}
	return decodeFloats(response, t.output, dst)
}

func (t *grpcTarget) close() {
	for _, connection := range t.connections {
		connection.Close()
	}
}
