// Search by the stems of words, so that "selecting" finds "selection": Material finds whatever begins with what was typed.
{
  const ending = /(?:ies|ions?|ings?|ed|es|(?<![su])s|e|y)$/i;
  const stem = (word) => {
    const rest = word.replace(ending, "");
    return rest.length < 4 || rest === word ? word : rest.replace(/([bdgmnprt])\1$/i, "$1");
  };
  const post = Worker.prototype.postMessage;
  Worker.prototype.postMessage = function (message, ...others) {
    const isQuery = message?.type === 2 && typeof message.data === "string";
    const data = isQuery ? message.data.replace(/[a-z]{5,}/gi, stem) : undefined;
    return post.call(this, isQuery ? {...message, data} : message, ...others);
  };
}
