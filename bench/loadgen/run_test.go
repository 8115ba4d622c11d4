package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
)

func writePayloads(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "texts.jsonl")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func loadgen(t *testing.T, arguments ...string) Report {
	t.Helper()
	o, err := parse(arguments)
	if err != nil {
		t.Fatal(err)
	}
	report, err := run(o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// httpServer answers with the length of the text as the first value, and remembers the texts in order of arrival.
func httpServer(t *testing.T) (address string, texts func() []string) {
	t.Helper()
	var mutex sync.Mutex
	var seen []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Text  string
			Input []string
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		text := body.Text
		if len(body.Input) == 1 {
			text = body.Input[0]
		}
		mutex.Lock()
		seen = append(seen, text)
		mutex.Unlock()
		if text == "bad" {
			http.Error(w, "this text is bad", http.StatusUnprocessableEntity)
			return
		}
		fmt.Fprintf(w, `{"object": "embedding", "embedding": [%d, -0.5, 1e-3]}`, len(text))
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String(), func() []string {
		mutex.Lock()
		defer mutex.Unlock()
		return append([]string(nil), seen...)
	}
}

func TestClosedLoopOverHTTPSendsTheTextsInOrder(t *testing.T) {
	address, texts := httpServer(t)
	payloads := writePayloads(t, `"a"`, `{"text": "bb"}`, `"ccc"`)
	report := loadgen(t, "--target", address, "--payloads", payloads, "--clients", "1", "--warmup", "0s",
		"--max-requests", "3", "--expect-dim", "3", "--answers", "2")
	if got := strings.Join(texts(), " "); got != "a bb ccc" {
		t.Errorf("texts arrived as %q", got)
	}
	if report.Right != 3 || report.Errors != 0 || report.Repeated || report.Latency == nil {
		t.Errorf("%+v", report)
	}
	if len(report.Answers) != 2 || report.Answers[1][0] != 2 || report.Answers[1][1] != -0.5 {
		t.Errorf("answers %v", report.Answers)
	}
}

func TestOpenAIBody(t *testing.T) {
	address, texts := httpServer(t)
	report := loadgen(t, "--target", address, "--payloads", writePayloads(t, `"a \"quoted\" text"`), "--clients", "1",
		"--warmup", "0s", "--max-requests", "1", "--api", "openai", "--model", "m")
	if report.Right != 1 || texts()[0] != `a "quoted" text` {
		t.Errorf("%+v %v", report, texts())
	}
}

func TestErrorsAreCountedWithTheFirstText(t *testing.T) {
	address, _ := httpServer(t)
	report := loadgen(t, "--target", address, "--payloads", writePayloads(t, `"good"`, `"bad"`), "--clients", "1",
		"--warmup", "0s", "--max-requests", "4")
	if report.Right != 2 || report.Errors != 2 || !strings.Contains(report.FirstError, "422") ||
		!strings.Contains(report.FirstError, "this text is bad") || !report.Repeated {
		t.Errorf("%+v", report)
	}
}

func TestAWrongShapeIsNoRightAnswer(t *testing.T) {
	address, _ := httpServer(t)
	report := loadgen(t, "--target", address, "--payloads", writePayloads(t, `"a"`), "--clients", "2",
		"--warmup", "0s", "--max-requests", "5", "--expect-dim", "384")
	if report.Right != 0 || report.Errors != 5 || !strings.Contains(report.FirstError, "3 values, expected 384") {
		t.Errorf("%+v", report)
	}
}

// A target that answers nobody before everybody has asked: a loop that waits for answers would never end.
type barrier struct {
	waiting sync.WaitGroup
}

func (b *barrier) send(_ context.Context, _ []byte, dst []float32) ([]float32, error) {
	b.waiting.Done()
	b.waiting.Wait()
	return append(dst, 1), nil
}

func (*barrier) close() {}

func TestOpenLoopDoesNotWaitForAnswers(t *testing.T) {
	arrivals := make([]time.Duration, 40)
	for i := range arrivals {
		arrivals[i] = time.Duration(i) * time.Millisecond
	}
	var server barrier
	server.waiting.Add(len(arrivals))
	var events []string
	r := newRunner(plan{
		requests: [][]byte{{1}, {2}}, arrivals: arrivals, warmup: 10 * time.Millisecond, duration: 30 * time.Millisecond,
		maxRequests: 100, timeout: time.Second,
	}, &server, func(name string) { events = append(events, name) })
	out, err := r.openLoop()
	if err != nil {
		t.Fatal(err)
	}
	// All answers came after the last arrival, so each measured latency covers the time since its own arrival.
	if out.right != 30 || len(out.latencies) != 30 || out.rightInWindow != 40 {
		t.Errorf("right %d, in the window %d", out.right, out.rightInWindow)
	}
	last := arrivals[len(arrivals)-1]
	for _, latency := range out.latencies {
		if latency < 0 {
			t.Errorf("latency %v", latency)
		}
	}
	if longest := summarise(out.latencies).Max; longest < milliseconds(last-arrivals[10]) {
		t.Errorf("longest latency %g ms leaves out the wait since the first measured arrival", longest)
	}
	if strings.Join(events, " ") != "measure-start measure-end" {
		t.Errorf("events %v", events)
	}
}

func TestOpenLoopOverGRPC(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		if method, _ := grpc.MethodFromServerStream(stream); method != inferMethod {
			return fmt.Errorf("method %s", method)
		}
		var request []byte
		if err := stream.RecvMsg(&request); err != nil {
			return err
		}
		response := rawResponse([][]byte{rawTensor("EMBEDDING", "FP32", 1, 2)}, rawFloats(1, float32(len(request))))
		return stream.SendMsg(&response)
	}))
	go server.Serve(listener)
	defer server.Stop()
	report := loadgen(t, "--protocol", "grpc", "--target", listener.Addr().String(), "--model", "search",
		"--payloads", writePayloads(t, `"a"`, `"bb"`), "--rate", "500", "--warmup", "20ms", "--duration", "200ms",
		"--expect-dim", "2", "--connections", "2")
	arrivals, _ := poissonArrivals(500, 220*time.Millisecond, 20261122, 1000)
	due := 0
	for _, arrival := range arrivals {
		if arrival >= 20*time.Millisecond {
			due++
		}
	}
	if report.Right != due || report.Errors != 0 || report.Lag == nil || report.Mode != "open" {
		t.Errorf("expected %d: %+v", due, report)
	}
}

func TestOnlyLoopbackIsLoaded(t *testing.T) {
	payloads := writePayloads(t, `"a"`)
	for _, target := range []string{"192.0.2.1:80", "example.org:80", "0.0.0.0:80", "[2001:db8::1]:80", ":80", "127.0.0.1"} {
		if _, err := parse([]string{"--target", target, "--payloads", payloads, "--clients", "1"}); err == nil {
			t.Errorf("%s was accepted", target)
		}
	}
	for _, target := range []string{"127.0.0.1:80", "127.8.9.10:80", "[::1]:80", "localhost:80"} {
		if _, err := parse([]string{"--target", target, "--payloads", payloads, "--clients", "1"}); err != nil {
			t.Errorf("%s: %v", target, err)
		}
	}
}

func TestTheLoadIsAlwaysBounded(t *testing.T) {
	for _, arguments := range [][]string{
		{"--clients", "1", "--duration", "1h"},
		{"--clients", "1", "--max-requests", "0"},
		{"--clients", "1", "--max-requests", "999999999"},
		{"--clients", "100000"},
		{"--clients", "1", "--rate", "1"},
		{},
	} {
		if _, err := parse(append([]string{"--target", "127.0.0.1:80", "--payloads", "x"}, arguments...)); err == nil {
			t.Errorf("%v was accepted", arguments)
		}
	}
}

func TestDigestNamesTextsAndOrder(t *testing.T) {
	digests := map[string]bool{}
	for _, texts := range [][]string{{"ab", "c"}, {"a", "bc"}, {"c", "ab"}, {"ab", "c", ""}} {
		digests[orderDigest(texts)] = true
	}
	if len(digests) != 4 {
		t.Errorf("%d digests of four lists", len(digests))
	}
}

func TestPayloadErrorsNameTheLine(t *testing.T) {
	for lines, want := range map[string]string{"\"a\"\n{\"other\": 1}": ":2:", "{": ":1:", "": "no text"} {
		if _, err := readTexts(writePayloads(t, lines)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", lines, err)
		}
	}
}

func TestEmbeddingParser(t *testing.T) {
	for document, want := range map[string]int{
		`{"embedding":[1,2,3]}`: 3,
		`{"data":[{"object":"embedding","index":0,"embedding" : [ -1.5e-3 , 2 ]}]}`: 2,
		`{"embedding":[]}`: 0,
	} {
		values, err := parseEmbedding([]byte(document), nil)
		if err != nil || len(values) != want {
			t.Errorf("%s: %v %v", document, values, err)
		}
	}
	for _, document := range []string{`{}`, `{"embedding":"x"}`, `{"embedding":[1,`, `{"embedding":[1,x]}`, `{"embedding":[1,]}`} {
		if _, err := parseEmbedding([]byte(document), nil); err == nil {
			t.Errorf("%s was accepted", document)
		}
	}
	for _, values := range [][]float32{{}, {0, 0}} {
		if checkVector(values, 0) == nil {
			t.Errorf("%v was accepted", values)
		}
	}
}
