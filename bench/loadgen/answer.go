package main

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
)

// checkVector accepts an answer only with the expected number of finite values that are not all zero: a server that
// answers quickly with nothing must not look fast. expected 0 accepts any length.
func checkVector(values []float32, expected int) error {
	if expected > 0 && len(values) != expected {
		return fmt.Errorf("answer has %d values, expected %d", len(values), expected)
	}
	var sum float64
	for _, value := range values {
		sum += float64(value) * float64(value)
	}
	if math.IsNaN(sum) || math.IsInf(sum, 0) || sum == 0 {
		return fmt.Errorf("answer's %d values are all zero or not finite", len(values))
	}
	return nil
}

var embeddingKey = []byte(`"embedding"`)

// parseEmbedding appends the numbers of the first `"embedding": [...]` of a JSON document to dst. It scans rather than
// decodes: the client shares the cores with the server, and a full decode costs several times as much. The OpenAI
// shape also holds "embedding" as a value; a key is what a colon and a bracket follow.
func parseEmbedding(document []byte, dst []float32) ([]float32, error) {
	for rest := document; ; {
		at := bytes.Index(rest, embeddingKey)
		if at < 0 {
			return dst, fmt.Errorf(`answer has no array "embedding": %.120s`, document)
		}
		rest = rest[at+len(embeddingKey):]
		after, isKey := bytes.CutPrefix(trimSpace(rest), []byte(":"))
		array, isArray := bytes.CutPrefix(trimSpace(after), []byte("["))
		if isKey && isArray {
			return parseNumbers(array, dst)
		}
	}
}

func trimSpace(b []byte) []byte { return bytes.TrimLeft(b, " \t\r\n") }

func parseNumbers(array []byte, dst []float32) ([]float32, error) {
	for {
		array = trimSpace(array)
		end := bytes.IndexAny(array, ",]")
		if end < 0 {
			return dst, fmt.Errorf("array of the answer does not end")
		}
		token := bytes.TrimRight(array[:end], " \t\r\n")
		if len(token) == 0 && array[end] == ']' && len(dst) == 0 {
			return dst, nil
		}
		value, err := strconv.ParseFloat(string(token), 32)
		if err != nil {
			return dst, fmt.Errorf("value %d of the answer: %w", len(dst), err)
		}
		dst = append(dst, float32(value))
		if array[end] == ']' {
			return dst, nil
		}
		array = array[end+1:]
	}
}
