package launch

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/windows"
)

// execute is Become.
func execute(path string, args, env []string, conn Connection, as Place) (code int, err error) {
	keys := make(chan os.Signal, 1) // they come to the program too, and are its own to judge
	signal.Notify(keys, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(keys)
	cmd := &exec.Cmd{
		Path: path, Args: args, Env: env, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{CreationFlags: windows.CREATE_SUSPENDED},
	}
	give := giveHandle
	if as == Stdio {
		give = giveStdio
	}
	given, err := give(cmd, conn)
	if err != nil {
		return 0, err
	}
	err = cmd.Start()
	given()
	if err != nil {
		return 0, err
	}
	// What the program starts may outlive it, as it may elsewhere.
	job, err := leadWith(cmd.Process.Pid, windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE|windows.JOB_OBJECT_LIMIT_SILENT_BREAKAWAY_OK)
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return 0, err
	}
	defer job.close()
	_ = cmd.Wait() // how it ended is in ProcessState
	if as == Stdio {
		_, _ = conn.Write(nil) // returns when what has found no room is on its way
		_ = conn.Close()
	}
	return cmd.ProcessState.ExitCode(), nil
}

// giveHandle has cmd inherit conn's handle, and no other process that is started meanwhile.
// The function it returns is to be called once cmd has started, or failed to.
func giveHandle(cmd *exec.Cmd, conn Connection) (given func(), err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var b bequest
	ctlErr := raw.Control(func(h uintptr) { err = b.add(windows.Handle(h)) })
	if ctlErr != nil {
		err = ctlErr
	}
	if err != nil {
		return nil, fmt.Errorf("a handle for the program: %w", err)
	}
	b.leaveTo(cmd)
	cmd.Env = append(cmd.Env, handleVariable+"="+b.numbers[0])
	return func() {
		b.close()
		if cmd.Process != nil {
			_ = conn.Close() // it is the program's alone
		}
	}, nil
}

// giveStdio has cmd's standard input and output copied.
func giveStdio(cmd *exec.Cmd, conn Connection) (given func(), err error) {
	cmd.Stdin, cmd.Stdout = nil, conn
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	return func() { go copyInput(in, conn) }, nil
}

// copyInput ends with conn.
func copyInput(in io.WriteCloser, conn io.Reader) {
	_, _ = io.Copy(in, conn)
	_ = in.Close()
}
