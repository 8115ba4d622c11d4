package main

import (
	"encoding/binary"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// The Open Inference Protocol's gRPC messages, encoded by hand: only the fields that one text in and one float tensor
// out need. The numbers are those of the protocol's published service definition.
const (
	inferMethod = "/inference.GRPCInferenceService/ModelInfer"

	requestModelName  = 1 // ModelInferRequest
	requestInputs     = 5
	requestOutputs    = 6
	requestRawInputs  = 7
	tensorName        = 1 // InferInputTensor, InferRequestedOutputTensor, InferOutputTensor
	tensorDatatype    = 2
	tensorShape       = 3
	tensorContents    = 5
	responseOutputs   = 5 // ModelInferResponse
	responseRaw       = 6
	contentsFP32      = 6 // InferTensorContents
	rawLengthPrefix   = 4 // bytes before each element of a BYTES tensor
	fp32Bytes         = 4
	datatypeBytes     = "BYTES"
	datatypeFP32      = "FP32"
	wireBytes         = protowire.BytesType
	maxResponseFloats = 1 << 20
)

// encodeTextRequest builds a ModelInferRequest with one BYTES tensor of shape [1, 1] and one wanted output.
func encodeTextRequest(model, input, output, text string) []byte {
	var shape []byte
	shape = protowire.AppendVarint(shape, 1)
	shape = protowire.AppendVarint(shape, 1)
	var tensor []byte
	tensor = appendString(tensor, tensorName, input)
	tensor = appendString(tensor, tensorDatatype, datatypeBytes)
	tensor = appendBytes(tensor, tensorShape, shape)

	raw := make([]byte, rawLengthPrefix, rawLengthPrefix+len(text))
	binary.LittleEndian.PutUint32(raw, uint32(len(text)))
	raw = append(raw, text...)

	var request []byte
	request = appendString(request, requestModelName, model)
	request = appendBytes(request, requestInputs, tensor)
	request = appendBytes(request, requestOutputs, appendString(nil, tensorName, output))
	return appendBytes(request, requestRawInputs, raw)
}

func appendString(b []byte, number protowire.Number, value string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, number, wireBytes), value)
}

func appendBytes(b []byte, number protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, number, wireBytes), value)
}

// eachField calls visit for every field of a message; value holds a length-delimited field's bytes, else is nil,
// and then number64 holds the scalar.
func eachField(message []byte, visit func(number protowire.Number, value []byte, number64 uint64) error) error {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return protowire.ParseError(n)
		}
		message = message[n:]
		var value []byte
		var scalar uint64
		switch kind {
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(message)
			if n >= 0 && value == nil {
				value = []byte{}
			}
		case protowire.VarintType:
			scalar, n = protowire.ConsumeVarint(message)
		default:
			n = protowire.ConsumeFieldValue(number, kind, message)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err := visit(number, value, scalar); err != nil {
			return err
		}
		message = message[n:]
	}
	return nil
}

type outputTensor struct {
	name, datatype string
	shape          []int64
	fp32           []byte // packed little-endian floats of `contents`, when the server does not answer raw
}

func decodeTensor(message []byte) (outputTensor, error) {
	var tensor outputTensor
	err := eachField(message, func(number protowire.Number, value []byte, scalar uint64) error {
		switch number {
		case tensorName:
			tensor.name = string(value)
		case tensorDatatype:
			tensor.datatype = string(value)
		case tensorShape:
			if value == nil { // an unpacked element
				tensor.shape = append(tensor.shape, int64(scalar))
				return nil
			}
			for len(value) > 0 {
				size, n := protowire.ConsumeVarint(value)
				if n < 0 {
					return protowire.ParseError(n)
				}
				tensor.shape = append(tensor.shape, int64(size))
				value = value[n:]
			}
		case tensorContents:
			return eachField(value, func(number protowire.Number, packed []byte, _ uint64) error {
				if number == contentsFP32 {
					tensor.fp32 = append(tensor.fp32, packed...)
				}
				return nil
			})
		}
		return nil
	})
	return tensor, err
}

// decodeFloats finds the FP32 output `name` in a ModelInferResponse and appends its values to dst. The values are
// checked against the tensor's own shape. Raw contents stand in the order of the outputs.
func decodeFloats(response []byte, name string, dst []float32) ([]float32, error) {
	var found *outputTensor
	position, outputs := -1, 0
	var raws [][]byte
	err := eachField(response, func(number protowire.Number, value []byte, _ uint64) error {
		switch number {
		case responseOutputs:
			tensor, err := decodeTensor(value)
			if err != nil {
				return err
			}
			if tensor.name == name {
				found, position = &tensor, outputs
			}
			outputs++
		case responseRaw:
			raws = append(raws, value)
		}
		return nil
	})
	if err != nil {
		return dst, err
	}
	if found == nil {
		return dst, fmt.Errorf("answer has no output %q", name)
	}
	if found.datatype != datatypeFP32 {
		return dst, fmt.Errorf("output %q: found %s, expected %s", name, found.datatype, datatypeFP32)
	}
	values := found.fp32
	if len(raws) > 0 {
		if position >= len(raws) {
			return dst, fmt.Errorf("output %q: raw contents are missing", name)
		}
		values = raws[position]
	}
	elements := int64(1)
	for _, size := range found.shape {
		if size < 0 || size > maxResponseFloats {
			return dst, fmt.Errorf("output %q: shape %v", name, found.shape)
		}
		elements *= size
	}
	if int64(len(values)) != elements*fp32Bytes {
		return dst, fmt.Errorf("output %q: %d bytes do not fill shape %v", name, len(values), found.shape)
	}
	for ; len(values) > 0; values = values[fp32Bytes:] {
		dst = append(dst, math.Float32frombits(binary.LittleEndian.Uint32(values)))
	}
	return dst, nil
}
