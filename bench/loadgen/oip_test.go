package main

import (
	"bytes"
	"encoding/binary"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// The reference for the hand-written encoder is the protobuf library itself, over a descriptor built here from the
// protocol's published message numbers.
func messageTypes(t *testing.T) (request, response protoreflect.MessageDescriptor) {
	t.Helper()
	kinds := map[string]descriptorpb.FieldDescriptorProto_Type{
		"string": descriptorpb.FieldDescriptorProto_TYPE_STRING, "bytes": descriptorpb.FieldDescriptorProto_TYPE_BYTES,
		"int64": descriptorpb.FieldDescriptorProto_TYPE_INT64, "float": descriptorpb.FieldDescriptorProto_TYPE_FLOAT,
	}
	field := func(name string, number int32, kind string, repeated bool) *descriptorpb.FieldDescriptorProto {
		label := descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL
		if repeated {
			label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED
		}
		f := &descriptorpb.FieldDescriptorProto{Name: &name, Number: &number, Label: &label}
		if scalar, ok := kinds[kind]; ok {
			f.Type = &scalar
		} else {
			message := descriptorpb.FieldDescriptorProto_TYPE_MESSAGE
			f.Type, f.TypeName = &message, proto.String(".inference."+kind)
		}
		return f
	}
	message := func(name string, fields ...*descriptorpb.FieldDescriptorProto) *descriptorpb.DescriptorProto {
		return &descriptorpb.DescriptorProto{Name: &name, Field: fields}
	}
	file := &descriptorpb.FileDescriptorProto{
		Name: proto.String("oip.proto"), Package: proto.String("inference"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{
			message("Contents", field("fp32_contents", 6, "float", true)),
			message("Tensor", field("name", 1, "string", false), field("datatype", 2, "string", false),
				field("shape", 3, "int64", true), field("contents", 5, "Contents", false)),
			message("Request", field("model_name", 1, "string", false), field("model_version", 2, "string", false),
				field("id", 3, "string", false), field("inputs", 5, "Tensor", true), field("outputs", 6, "Tensor", true),
				field("raw_input_contents", 7, "bytes", true)),
			message("Response", field("model_name", 1, "string", false), field("model_version", 2, "string", false),
				field("id", 3, "string", false), field("outputs", 5, "Tensor", true),
				field("raw_output_contents", 6, "bytes", true)),
		},
	}
	built, err := protodesc.NewFile(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return built.Messages().ByName("Request"), built.Messages().ByName("Response")
}

func get(m protoreflect.Message, name string) protoreflect.Value {
	return m.Get(m.Descriptor().Fields().ByName(protoreflect.Name(name)))
}

func TestRequestIsWhatTheProtobufLibraryReads(t *testing.T) {
	requestType, _ := messageTypes(t)
	for _, text := range []string{"", "Return the current directory.", "zwei Wörter – ✓", strings.Repeat("x", 70_000)} {
		request := dynamicpb.NewMessage(requestType)
		if err := proto.Unmarshal(encodeTextRequest("search", "TEXT", "EMBEDDING", text), request); err != nil {
			t.Fatal(err)
		}
		if len(request.GetUnknown()) > 0 {
			t.Errorf("unknown fields %x", request.GetUnknown())
		}
		if got := get(request, "model_name").String(); got != "search" {
			t.Errorf("model %q", got)
		}
		input := get(request, "inputs").List().Get(0).Message()
		shape := get(input, "shape").List()
		if get(input, "name").String() != "TEXT" || get(input, "datatype").String() != "BYTES" ||
			shape.Len() != 2 || shape.Get(0).Int() != 1 || shape.Get(1).Int() != 1 {
			t.Errorf("input %v", input)
		}
		if got := get(get(request, "outputs").List().Get(0).Message(), "name").String(); got != "EMBEDDING" {
			t.Errorf("output %q", got)
		}
		raw := get(request, "raw_input_contents").List().Get(0).Bytes()
		if int(binary.LittleEndian.Uint32(raw)) != len(text) || string(raw[4:]) != text {
			t.Errorf("raw contents of %.20q: %.20x", text, raw)
		}
	}
}

func rawFloats(values ...float32) []byte {
	var raw []byte
	for _, value := range values {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(value))
	}
	return raw
}

func rawTensor(name, datatype string, shape ...uint64) []byte {
	var packed []byte
	for _, size := range shape {
		packed = protowire.AppendVarint(packed, size)
	}
	tensor := appendString(nil, tensorName, name)
	tensor = appendString(tensor, tensorDatatype, datatype)
	return appendBytes(tensor, tensorShape, packed)
}

func rawResponse(tensors [][]byte, raws ...[]byte) []byte {
	response := appendString(nil, requestModelName, "search")
	for _, tensor := range tensors {
		response = appendBytes(response, responseOutputs, tensor)
	}
	for _, raw := range raws {
		response = appendBytes(response, responseRaw, raw)
	}
	return response
}

func TestResponseRawContentsFollowTheOrderOfOutputs(t *testing.T) {
	response := rawResponse(
		[][]byte{rawTensor("LABEL", "BYTES", 1, 1), rawTensor("PROBABILITIES", "FP32", 1, 3)},
		[]byte("\x01\x00\x00\x00a"), rawFloats(0.5, 0.25, 0.25))
	values, err := decodeFloats(response, "PROBABILITIES", nil)
	if err != nil || len(values) != 3 || values[0] != 0.5 || values[2] != 0.25 {
		t.Fatalf("%v %v", values, err)
	}
}

func TestResponseTypedContents(t *testing.T) {
	_, responseType := messageTypes(t)
	response := dynamicpb.NewMessage(responseType)
	outputs := response.Mutable(responseType.Fields().ByName("outputs")).List()
	tensor := outputs.AppendMutable().Message()
	fields := tensor.Descriptor().Fields()
	tensor.Set(fields.ByName("name"), protoreflect.ValueOfString("EMBEDDING"))
	tensor.Set(fields.ByName("datatype"), protoreflect.ValueOfString("FP32"))
	for _, size := range []int64{1, 2} {
		tensor.Mutable(fields.ByName("shape")).List().Append(protoreflect.ValueOfInt64(size))
	}
	contents := tensor.Mutable(fields.ByName("contents")).Message()
	list := contents.Mutable(contents.Descriptor().Fields().ByName("fp32_contents")).List()
	list.Append(protoreflect.ValueOfFloat32(1.5))
	list.Append(protoreflect.ValueOfFloat32(-2))
	encoded, err := proto.Marshal(response)
	if err != nil {
		t.Fatal(err)
	}
	values, err := decodeFloats(encoded, "EMBEDDING", nil)
	if err != nil || len(values) != 2 || values[0] != 1.5 || values[1] != -2 {
		t.Fatalf("%v %v", values, err)
	}
}

func TestResponseWithoutARightAnswerIsAnError(t *testing.T) {
	good := rawTensor("EMBEDDING", "FP32", 1, 2)
	for name, c := range map[string]struct {
		response []byte
		want     string
	}{
		"no output":    {rawResponse([][]byte{rawTensor("OTHER", "FP32", 1, 2)}, rawFloats(1, 2)), "no output"},
		"wrong type":   {rawResponse([][]byte{rawTensor("EMBEDDING", "FP64", 1, 2)}, rawFloats(1, 2)), "FP64"},
		"short":        {rawResponse([][]byte{good}, rawFloats(1)), "do not fill"},
		"long":         {rawResponse([][]byte{good}, rawFloats(1, 2, 3)), "do not fill"},
		"raw missing":  {rawResponse([][]byte{rawTensor("A", "FP32", 1), good}, rawFloats(1)), "missing"},
		"empty":        {nil, "no output"},
		"cut":          {bytes.Clone(rawResponse([][]byte{good}, rawFloats(1, 2)))[:20], ""},
		"vast product": {rawResponse([][]byte{rawTensor("EMBEDDING", "FP32", 1<<62, 4)}, nil), "shape"},
	} {
		if _, err := decodeFloats(c.response, "EMBEDDING", nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
