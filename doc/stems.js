// Search by the stems of the words that mean something, so that "how do I select events?" finds "selection of an event":
// Material finds whatever begins with what was typed, and takes "a" for the beginning of "architecture".
{
  const EMPTY = new Set(
    ("a about after an and any are as at be before but by can could did do does for from get gets give had has have how i if in into is it its " +
      "me my no not now of on one or our own should so some than that the their them then there they this to too use used using " +
      "want was we were what when where which who why will with would you your").split(" "),
  );
  const ending = /(?:ies|ions?|ings?|ed|es|(?<![su])s|e|y)$/i;
  const stem = (word) => {
    const rest = word.replace(ending, "");
    if (rest.length >= 4 && rest !== word) return rest.replace(/([bdgmnprt])\1$/i, "$1");
    return word.length >= 4 ? word.replace(/(?<![su])s$/i, "") : word;
  };
  const asked = (query) => {
    const words = query.replace(/(^|\s)[(\[/]+|[)\],;:.?!/]+(?=\s|$)/g, "$1").split(/\s+/).filter(Boolean);
    const telling = words.filter((word) => !EMPTY.has(word.toLowerCase()));
    return (telling.length ? telling : words).join(" ").replace(/[a-z]{4,}/gi, stem);
  };
  const post = Worker.prototype.postMessage;
  Worker.prototype.postMessage = function (message, ...others) {
    const isQuery = message?.type === 2 && typeof message.data === "string";
    return post.call(this, isQuery ? {...message, data: asked(message.data)} : message, ...others);
  };
}
