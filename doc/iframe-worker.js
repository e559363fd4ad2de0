// Search in pages that are opened from disk, where browsers run no workers: the script of the worker runs in a hidden frame.
// (Material's own help for this, iframe-worker, is fetched from the network.)
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.appendChild(frame);
      this.frame = frame.contentWindow;
      window.addEventListener("message", (event) => {
        if (event.source !== this.frame) return;
        const message = new MessageEvent("message", {data: event.data});
        this.dispatchEvent(message);
        if (this.onmessage) this.onmessage(message);
      });
      const begin = `
        window.postMessage = (data) => parent.postMessage(data, "*");
        window.importScripts = (...urls) => urls.reduce((done, url) => done.then(() => new Promise((loaded) => {
          const script = document.createElement("script");
          script.src = url;
          script.onload = loaded;
          document.body.appendChild(script);
        })), Promise.resolve());`;
      frame.contentDocument.open();
      frame.contentDocument.write(`<body><script>${begin}</script><script src="${url}"></script></body>`);
      frame.contentDocument.close();
    }

    postMessage(data) {
      // as if it came from elsewhere: the frame has its own postMessage
      this.frame.dispatchEvent(new MessageEvent("message", {data, source: window}));
    }

    terminate() {
      this.frame.frameElement.remove();
    }
  };
}
