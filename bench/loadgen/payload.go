package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
)

// maxLine bounds one line of the payload file (a docstring is a few KiB).
const maxLine = 4 << 20

// readTexts reads a JSONL file. A line is a JSON string or an object with a string field "text".
// The order of the file is the order of the requests.
func readTexts(path string) ([]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var texts []string
	lines := bufio.NewScanner(file)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	for number := 1; lines.Scan(); number++ {
		line := lines.Bytes()
		if len(line) == 0 {
			continue
		}
		text, err := textOf(line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, number, err)
		}
		texts = append(texts, text)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(texts) == 0 {
		return nil, fmt.Errorf("%s: holds no text", path)
	}
	return texts, nil
}

func textOf(line []byte) (string, error) {
	if line[0] == '"' {
		var text string
		err := json.Unmarshal(line, &text)
		return text, err
	}
	var row struct {
		Text *string `json:"text"`
	}
	if err := json.Unmarshal(line, &row); err != nil {
		return "", err
	}
	if row.Text == nil {
		return "", fmt.Errorf(`found no string field "text"`)
	}
	return *row.Text, nil
}

// orderDigest names the texts and their order: SHA-256 over length-prefixed texts, so that
// moving a character from one text to the next changes it.
func orderDigest(texts []string) string {
	hash := sha256.New()
	var length [8]byte
	for _, text := range texts {
		binary.LittleEndian.PutUint64(length[:], uint64(len(text)))
		hash.Write(length[:])
		hash.Write([]byte(text))
	}
	return "sha256:" + hex.EncodeToString(hash.Sum(nil))
}
