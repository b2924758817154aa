// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/berth-dev/berth/pkg/plugin/config"
)

// keys are the tables of the page, each of constants whose names begin alike.
var keys = []struct{ prefix, title, column string }{
	{"Annotation", "Annotations", "annotation"},
	{"Label", "Labels", "label"},
	{"Env", "Environment variables", "variable"},
}

// writeKeys writes the keys that package api/v1alpha1 has a constant for, with the constant's comment.
func writeKeys(out *bytes.Buffer) error {
	code, err := parse("api/v1alpha1")
	if err != nil {
		return err
	}
	for _, table := range keys {
		fmt.Fprintf(out, "\n## %s\n\n| %s | |\n|---|---|\n", table.title, table.column)
		for _, c := range code.constants() {
			if !strings.HasPrefix(c.name, table.prefix) {
				continue
			}
			if c.about == "" {
				return fmt.Errorf("constant %s has no comment that says what it is", c.name)
			}
			fmt.Fprintf(out, "| `%s` | %s |\n", c.value, cell(sentence(c.about, c.name)))
		}
	}
	return nil
}

// writeArgs writes the fields of the plugin's arguments, with their comments and the defaults that the code sets.
func writeArgs(out *bytes.Buffer) error {
	code, err := parse("pkg/plugin/config")
	if err != nil {
		return err
	}
	defaults := &config.Args{}
	defaults.SetDefaults()
	text, err := json.Marshal(defaults)
	if err != nil {
		return err
	}
	values := map[string]json.RawMessage{}
	if err := json.Unmarshal(text, &values); err != nil {
		return err
	}
	out.WriteString("\n| argument | type | default | |\n|---|---|---|---|\n")
	for _, field := range code.structure("Args").Fields.List {
		name, _, _ := strings.Cut(reflect.StructTag(strings.Trim(field.Tag.Value, "`")).Get("json"), ",")
		if name == "" {
			continue // kind and apiVersion
		}
		value := "none"
		if raw, ok := values[name]; ok {
			value = "`" + strings.Trim(string(raw), `"`) + "`"
		} else if kind := types.ExprString(field.Type); kind == "bool" {
			value = "`false`"
		}
		fmt.Fprintf(out, "| `%s` | %s | %s | %s |\n", name, argumentType(field.Type), value, cell(sentence(field.Doc.Text(), field.Names[0].Name)))
	}
	return nil
}

// argumentType says what is written in YAML.
func argumentType(e ast.Expr) string {
	switch kind := strings.TrimPrefix(types.ExprString(e), "*"); kind {
	case "metav1.Duration":
		return "duration"
	case "resource.Quantity":
		return "quantity"
	case "[]string":
		return "list of strings"
	case "bool":
		return "boolean"
	case "int32":
		return "integer"
	default:
		return "string"
	}
}

// sentence is a Go comment without the name of what it is about, where that comes first.
func sentence(comment, name string) string {
	text := strings.Join(strings.Fields(comment), " ")
	for _, lead := range []string{name + " is ", name + " are ", name + " "} {
		if n := len(lead); len(text) > n && strings.EqualFold(text[:n], lead) {
			return strings.ToUpper(text[n:n+1]) + text[n+1:]
		}
	}
	return text
}

// source is the parsed files of a package.
type source struct {
	files     []*ast.File
	positions *token.FileSet
}

func parse(folder string) (*source, error) {
	names, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		return nil, err
	}
	s := &source{positions: token.NewFileSet()}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(s.positions, name, nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		s.files = append(s.files, file)
	}
	if len(s.files) == 0 {
		return nil, errors.New(folder + " has no Go files: run this at the top of the repository")
	}
	return s, nil
}

func (s *source) structure(name string) *ast.StructType {
	for _, file := range s.files {
		if object := file.Scope.Lookup(name); object != nil {
			return object.Decl.(*ast.TypeSpec).Type.(*ast.StructType)
		}
	}
	return &ast.StructType{Fields: &ast.FieldList{}}
}

type named struct{ name, value, about string }

// constants are the exported string constants of a package, in the order of the files, each with its comment.
func (s *source) constants() (all []named) {
	info := types.Info{Defs: map[*ast.Ident]types.Object{}}
	// What other packages declare is not needed for the values.
	checker := types.Config{Error: func(error) {}, Importer: nothing{}}
	_, _ = checker.Check("api", s.positions, s.files, &info)
	for _, file := range s.files {
		for _, decl := range file.Decls {
			group, ok := decl.(*ast.GenDecl)
			if !ok || group.Tok != token.CONST {
				continue
			}
			for _, spec := range group.Specs {
				spec := spec.(*ast.ValueSpec)
				about := spec.Doc.Text() + spec.Comment.Text()
				if len(group.Specs) == 1 {
					about = group.Doc.Text()
				}
				for _, ident := range spec.Names {
					if c, ok := info.Defs[ident].(*types.Const); ok && c.Exported() && c.Val().Kind() == constant.String {
						all = append(all, named{c.Name(), constant.StringVal(c.Val()), about})
					}
				}
			}
		}
	}
	return all
}

// nothing imports no package.
type nothing struct{}

func (nothing) Import(path string) (*types.Package, error) { return nil, errors.New(path) }
