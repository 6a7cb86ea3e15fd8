// What GitOps tools make of the statuses in a cluster: Flux, kubectl and Helm by kstatus, Argo CD by the Lua script that we ship for it.
//
//	kubectl get routes.diolkos.io -A -o json | gitops deploy/argocd/argocd-cm.yaml
//
// One line an object: KIND NAMESPACE/NAME, what kstatus says, what Argo CD says.
package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gitops ARGOCD_CM < LIST")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(configMap string) error {
	script, err := healthScript(configMap)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	// Kubernetes' own decoder: generations are whole numbers.
	var list map[string]any
	if err := json.Unmarshal(text, &list); err != nil {
		return err
	}
	items, found, err := unstructured.NestedSlice(list, "items")
	if err != nil || !found {
		return fmt.Errorf("no list of objects on standard input: %v", err)
	}
	for _, item := range items {
		item, ok := item.(map[string]any)
		if !ok {
			return fmt.Errorf("not an object: %v", item)
		}
		object := &unstructured.Unstructured{Object: item}
		result, err := status.Compute(object)
		if err != nil {
			return err
		}
		health, err := argo(script, item)
		if err != nil {
			return fmt.Errorf("%s %s/%s: %w", object.GetKind(), object.GetNamespace(), object.GetName(), err)
		}
		fmt.Printf("%s %s/%s %s %s\n", object.GetKind(), object.GetNamespace(), object.GetName(), result.Status, health)
	}
	return nil
}

// healthScript finds the script for our group in Argo CD's own configuration.
func healthScript(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	var configMap struct{ Data map[string]string }
	if err := yaml.Unmarshal(text, &configMap); err != nil {
		return "", err
	}
	var customizations map[string]struct {
		Health string `json:"health.lua"`
	}
	if err := yaml.Unmarshal([]byte(configMap.Data["resource.customizations"]), &customizations); err != nil {
		return "", err
	}
	script := customizations["diolkos.io/*"].Health
	if script == "" {
		return "", fmt.Errorf("%s: no health.lua for diolkos.io/*", path)
	}
	return script, nil
}

// argo runs a script as Argo CD does: without libraries beyond strings and tables, the object as `obj`, a table as the result.
func argo(script string, object map[string]any) (string, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(library.open), Protect: true}, lua.LString(library.name)); err != nil {
			return "", err
		}
	}
	state.SetGlobal("obj", value(state, object))
	if err := state.DoString(script); err != nil {
		return "", err
	}
	table, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return "", fmt.Errorf("the script returns %s, not a table", state.Get(-1).Type())
	}
	health := table.RawGetString("status").String()
	switch health {
	case "Healthy", "Progressing", "Degraded", "Suspended":
		return strings.TrimSpace(health), nil
	}
	return "", fmt.Errorf("the script says %q, which Argo CD does not know", health)
}

func value(state *lua.LState, v any) lua.LValue {
	switch v := v.(type) {
	case bool:
		return lua.LBool(v)
	case string:
		return lua.LString(v)
	case float64:
		return lua.LNumber(v)
	case int64:
		return lua.LNumber(v)
	case []any:
		table := state.CreateTable(len(v), 0)
		for _, item := range v {
			table.Append(value(state, item))
		}
		return table
	case map[string]any:
		table := state.CreateTable(0, len(v))
		for key, item := range v {
			table.RawSetString(key, value(state, item))
		}
		return table
	}
	return lua.LNil
}
