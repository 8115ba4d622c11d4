// Command loadgen sends a bounded load to a server on this machine and reports what came back as JSON.
//
// Two protocols: HTTP POST of JSON, and the Open Inference Protocol over gRPC. Two modes: a closed loop (--clients) and
// an open loop (--rate). `loadgen serve` is the other end: a backend that answers at once. The report goes to standard output; "measure-start" and "measure-end" go to standard error at
// the moment they happen, so that a harness can read the server's CPU time at the same moments.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Hard bounds, whatever the flags say.
const (
	longestRun   = 15 * time.Minute
	mostRequests = 2_000_000
	mostClients  = 1024
)

type options struct {
	protocol, address, path, api, model, input, output, payloads string
	clients, connections, maxRequests, expectDim, offset         int
	samples, procs                                               int
	rate                                                         float64
	documented                                                   bool
	seed                                                         uint64
	duration, warmup, timeout                                    time.Duration
}

// Report is the program's output. Times are in milliseconds unless the name says seconds.
type Report struct {
	Protocol      string            `json:"protocol"`
	Mode          string            `json:"mode"`
	Clients       int               `json:"clients,omitempty"`
	Connections   int               `json:"connections"`
	Rate          float64           `json:"rate,omitempty"`
	Seed          uint64            `json:"seed,omitempty"`
	WarmupSeconds float64           `json:"warmup_seconds"`
	Seconds       float64           `json:"seconds"`
	Throughput    float64           `json:"throughput"` // right answers a second
	Right         int               `json:"right"`
	Errors        int               `json:"errors"`
	Refused       int               `json:"refused"` // RESOURCE_EXHAUSTED or HTTP 429; not among the errors
	Retries       uint64            `json:"retries"` // of the documented client, the warm-up's too
	FirstError    string            `json:"first_error,omitempty"`
	RightInWindow int               `json:"right_in_window"` // between the two events: the divisor of server CPU time
	Latency       *Latency          `json:"latency_ms"`
	RefusedAfter  *Latency          `json:"refused_latency_ms,omitempty"`
	Lag           *Latency          `json:"dispatch_lag_ms,omitempty"` // open loop: how late the client itself was
	Histogram     []Bucket          `json:"histogram"`
	RefusedHist   []Bucket          `json:"refused_histogram,omitempty"`
	ClientCPU     float64           `json:"client_cpu_seconds"`
	Texts         int               `json:"texts"`
	Repeated      bool              `json:"texts_repeated"` // the measured requests went through the list more than once
	Digest        string            `json:"payload_digest"`
	Answers       map[int][]float32 `json:"answers,omitempty"`
}

func parse(arguments []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("loadgen", flag.ContinueOnError)
	flags.StringVar(&o.protocol, "protocol", "http", "http or grpc")
	flags.StringVar(&o.address, "target", "", "loopback host:port of the server; grpc: several with commas")
	flags.BoolVar(&o.documented, "documented", false, "grpc: the client of docs/wire-contract.md: round robin over the targets, at most 3 retries of UNAVAILABLE")
	flags.StringVar(&o.path, "path", "/embed", "http: path of the POST")
	flags.StringVar(&o.api, "api", apiPlain, `http: plain {"text": T} or openai {"model": M, "input": [T]}`)
	flags.StringVar(&o.model, "model", "", "grpc: model name; openai: value of model")
	flags.StringVar(&o.input, "input", "TEXT", "grpc: name of the BYTES input, shape [1, 1]")
	flags.StringVar(&o.output, "output", "EMBEDDING", "grpc: name of the FP32 output")
	flags.StringVar(&o.payloads, "payloads", "", `JSONL file: strings, or objects with a string "text"`)
	flags.IntVar(&o.clients, "clients", 0, "closed loop: requests in flight")
	flags.Float64Var(&o.rate, "rate", 0, "open loop: Poisson arrivals a second")
	flags.Uint64Var(&o.seed, "seed", 20261122, "open loop: seed of the arrivals")
	flags.IntVar(&o.connections, "connections", 0, "grpc: connections (default 1); http: most connections (default: clients, or 64 in the open loop)")
	flags.DurationVar(&o.duration, "duration", 20*time.Second, "measured time")
	flags.DurationVar(&o.warmup, "warmup", 3*time.Second, "time before it, not measured")
	flags.DurationVar(&o.timeout, "timeout", 10*time.Second, "of one request; later is an error")
	flags.IntVar(&o.maxRequests, "max-requests", 200_000, "most measured requests; ends a closed loop early")
	flags.IntVar(&o.expectDim, "expect-dim", 0, "length of a right answer (0: any)")
	flags.IntVar(&o.offset, "offset", 0, "index of the first measured text")
	flags.IntVar(&o.samples, "answers", 0, "keep the answers to the first N measured texts in the report")
	flags.IntVar(&o.procs, "procs", 2, "GOMAXPROCS: threads that run Go code, so that the client leaves the cores to the server")
	if err := flags.Parse(arguments); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	return o, o.check()
}

func (o *options) check() error {
	addresses := strings.Split(o.address, ",")
	for i, each := range addresses {
		address, err := loopbackAddress(each)
		if err != nil {
			return err
		}
		addresses[i] = address
	}
	o.address = strings.Join(addresses, ",")
	switch {
	case o.protocol != "grpc" && (o.documented || len(addresses) > 1):
		return fmt.Errorf("--documented and several targets belong to --protocol grpc")
	case o.protocol != "http" && o.protocol != "grpc":
		return fmt.Errorf("--protocol: found %q, expected http or grpc", o.protocol)
	case o.api != apiPlain && o.api != apiOpenAI:
		return fmt.Errorf("--api: found %q, expected %s or %s", o.api, apiPlain, apiOpenAI)
	case o.protocol == "grpc" && o.model == "":
		return fmt.Errorf("--model: the gRPC side needs a model name")
	case (o.clients > 0) == (o.rate > 0):
		return fmt.Errorf("give either --clients (closed loop) or --rate (open loop)")
	case o.clients < 0 || o.clients > mostClients:
		return fmt.Errorf("--clients: found %d, allowed 1 to %d", o.clients, mostClients)
	case o.rate < 0:
		return fmt.Errorf("--rate: found %g, expected more than 0", o.rate)
	case o.duration <= 0 || o.warmup < 0 || o.duration+o.warmup > longestRun:
		return fmt.Errorf("--duration and --warmup: found %v and %v, together at most %v", o.duration, o.warmup, longestRun)
	case o.timeout <= 0 || o.timeout > time.Minute:
		return fmt.Errorf("--timeout: found %v, allowed up to 1m", o.timeout)
	case o.maxRequests < 1 || o.maxRequests > mostRequests:
		return fmt.Errorf("--max-requests: found %d, allowed 1 to %d", o.maxRequests, mostRequests)
	case o.payloads == "":
		return fmt.Errorf("--payloads: a file is needed")
	case o.offset < 0 || o.samples < 0 || o.expectDim < 0 || o.procs < 1:
		return fmt.Errorf("--offset, --answers, --expect-dim and --procs must not be negative (--procs at least 1)")
	}
	if o.connections <= 0 {
		o.connections = 1
		if o.protocol == "http" {
			o.connections = max(o.clients, 64)
			if o.clients > 0 {
				o.connections = o.clients
			}
		}
	}
	return nil
}

func (o options) prepare(texts []string) ([][]byte, error) {
	requests := make([][]byte, len(texts))
	for i, text := range texts {
		if o.protocol == "grpc" {
			requests[i] = encodeTextRequest(o.model, o.input, o.output, text)
			continue
		}
		body, err := encodeHTTPRequest(o.api, o.model, text)
		if err != nil {
			return nil, err
		}
		requests[i] = body
	}
	return requests, nil
}

func (o options) connect() (target, error) {
	if o.protocol == "grpc" {
		return newGRPCTarget(strings.Split(o.address, ","), o.output, o.connections, o.documented)
	}
	return newHTTPTarget(o.address, o.path, o.connections), nil
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

func run(o options) (Report, error) {
	runtime.GOMAXPROCS(o.procs)
	texts, err := readTexts(o.payloads)
	if err != nil {
		return Report{}, err
	}
	requests, err := o.prepare(texts)
	if err != nil {
		return Report{}, err
	}
	p := plan{
		requests: requests, offset: o.offset % len(texts), expectDim: o.expectDim, clients: o.clients,
		warmup: o.warmup, duration: o.duration, maxRequests: o.maxRequests, timeout: o.timeout, samples: o.samples,
	}
	if o.rate > 0 {
		// The limit is the measured requests' and, again, the warm-up's.
		if p.arrivals, err = poissonArrivals(o.rate, o.warmup+o.duration, o.seed, 2*o.maxRequests); err != nil {
			return Report{}, err
		}
	}
	server, err := o.connect()
	if err != nil {
		return Report{}, err
	}
	defer server.close()

	var cpuStart, cpuEnd float64
	r := newRunner(p, server, func(name string) {
		if name == "measure-start" {
			cpuStart = cpuSeconds()
		} else {
			cpuEnd = cpuSeconds()
		}
		fmt.Fprintln(os.Stderr, name)
	})
	var out outcome
	report := Report{Protocol: o.protocol, Connections: o.connections, WarmupSeconds: o.warmup.Seconds()}
	if o.rate > 0 {
		report.Mode, report.Rate, report.Seed = "open", o.rate, o.seed
		if out, err = r.openLoop(); err != nil {
			return Report{}, err
		}
	} else {
		report.Mode, report.Clients = "closed", o.clients
		out = r.closed()
	}
	report.Seconds = out.elapsed.Seconds()
	report.Throughput = float64(out.right) / report.Seconds
	report.Right, report.Errors, report.FirstError = out.right, out.wrong, out.firstError
	report.RightInWindow = out.rightInWindow
	report.Refused, report.RefusedAfter = out.refused, summarise(out.refusals)
	if out.refused > 0 {
		report.RefusedHist = histogram(out.refusals) // sorted by summarise
	}
	if counting, ok := server.(interface{ retries() uint64 }); ok {
		report.Retries = counting.retries()
	}
	report.Latency = summarise(out.latencies)
	report.Lag = summarise(out.lags)
	report.Histogram = histogram(out.latencies) // sorted by summarise
	report.ClientCPU = cpuEnd - cpuStart
	report.Texts, report.Repeated, report.Digest = len(texts), out.sent > len(texts), orderDigest(texts)
	report.Answers = out.answers
	return report, nil
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		if err := serveCommand(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "loadgen serve:", err)
			os.Exit(2)
		}
		return
	}
	o, err := parse(os.Args[1:])
	if err == flag.ErrHelp {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		os.Exit(2)
	}
	report, err := run(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		os.Exit(1)
	}
	if report.Right == 0 {
		os.Exit(1)
	}
}
