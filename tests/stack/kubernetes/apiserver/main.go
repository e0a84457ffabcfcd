// kube-apiserver as its own release starts it. Its module has replace directives, which `go install` refuses.
package main

import (
	"os"
	_ "time/tzdata" // the time zones of CronJobs, on a machine that has none

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() { os.Exit(cli.Run(app.NewAPIServerCommand())) }
