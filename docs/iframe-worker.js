// Browsers start no worker from the disk. There a hidden frame stands in for it, so that search works without a server and without the network.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      // What the worker's script posts becomes an event of the frame's element, and so one of this object
      frame.srcdoc = `<script>postMessage = data => frameElement.dispatchEvent(new MessageEvent("message", {data}))</script><script src="${url}"></script>`
      frame.addEventListener("message", ({data}) => this.dispatchEvent(new MessageEvent("message", {data})))
      this.frame = new Promise(ready => frame.addEventListener("load", () => ready(frame.contentWindow)))
      document.body.append(frame)
    }
    postMessage(data) {
      this.frame.then(page => page.dispatchEvent(new MessageEvent("message", {data})))
    }
    terminate() {}
  }
}
