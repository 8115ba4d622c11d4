package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
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

type httpError struct {
	status int
	text   string
}

func (e *httpError) Error() string { return e.text }

// isRefusal says whether the server answered that it has too much to do.
func isRefusal(err error) bool {
	var http429 *httpError
	if errors.As(err, &http429) {
		return http429.status == http.StatusTooManyRequests
	}
	return err != nil && status.Code(err) == codes.ResourceExhausted
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
		return dst, &httpError{response.StatusCode, fmt.Sprintf("HTTP %d: %.200s", response.StatusCode, buffer.Bytes())}
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
	calls       atomic.Uint64
	attempts    atomic.Uint64
}

// documentedClient is what docs/wire-contract.md asks of a client.
const documentedClient = `{"loadBalancingConfig": [{"round_robin": {}}],
  "methodConfig": [{"name": [{"service": "inference.GRPCInferenceService"}], "retryPolicy": {"maxAttempts": 4,
  "initialBackoff": "0.05s", "maxBackoff": "1s", "backoffMultiplier": 3, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`

// attemptCounter counts how often calls are really sent.
type attemptCounter struct{ count *atomic.Uint64 }

func (attemptCounter) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (attemptCounter) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (attemptCounter) HandleConn(context.Context, stats.ConnStats)                       {}
func (a attemptCounter) HandleRPC(_ context.Context, event stats.RPCStats) {
	if _, begun := event.(*stats.Begin); begun {
		a.count.Add(1)
	}
}

func newGRPCTarget(addresses []string, output string, connections int, documented bool) (*grpcTarget, error) {
	t := &grpcTarget{output: output}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})),
		grpc.WithDisableServiceConfig(), // none that a resolver brings; the default one stays
	}
	if documented {
		options = append(options, grpc.WithDefaultServiceConfig(documentedClient), grpc.WithStatsHandler(attemptCounter{&t.attempts}))
	} else {
		options = append(options, grpc.WithDisableRetry()) // an error must be counted, not hidden
	}
	for i := range connections {
		target, more := "passthrough:///"+addresses[i%len(addresses)], options
		if documented {
			known := manual.NewBuilderWithScheme("known")
			state := resolver.State{}
			for _, address := range addresses {
				state.Addresses = append(state.Addresses, resolver.Address{Addr: address})
			}
			known.InitialState(state)
			target, more = "known:///servers", append(options[:len(options):len(options)], grpc.WithResolvers(known))
		}
		connection, err := grpc.NewClient(target, more...)
		if err != nil {
			t.close()
			return nil, err
		}
		t.connections = append(t.connections, connection)
	}
	return t, nil
}

// retries is how often the documented client sent a call again; 0 for others.
func (t *grpcTarget) retries() uint64 {
	if attempts := t.attempts.Load(); attempts > 0 {
		return attempts - t.calls.Load()
	}
	return 0
}

func (t *grpcTarget) send(ctx context.Context, request []byte, dst []float32) ([]float32, error) {
	connection := t.connections[t.next.Add(1)%uint64(len(t.connections))]
	t.calls.Add(1)
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
