// SPDX-License-Identifier: Apache-2.0
// Components of a tokenizer.json one by one; what is expected was made with Hugging Face tokenizers 0.23.3.
#include "data/tokenizer/normalizer.h"
#include "data/tokenizer/pre_tokenizer.h"
#include "data/tokenizer/token_decoder.h"
#include "samples.h"

using namespace llmctl;

namespace {

struct Case {
  const char *json, *given, *expected;
};
struct EncodeCase {
  const char *json, *given;
  std::vector<int32_t> expected;
};

const Case kNormalizers[] = {
    {"{\"type\": \"NFC\"}",
     "  Caf\303\251 e\314\201 \342\204\253\357\254\201 \344\270\255\346\226\207 \304\260\316\243 "
     "a\342\200\213b\011c\001 \343\200\200x  ",
     "  Caf\303\251 \303\251 \303\205\357\254\201 \344\270\255\346\226\207 \304\260\316\243 "
     "a\342\200\213b\011c\001 \343\200\200x  "},
    {"{\"type\": \"NFD\"}",
     "  Caf\303\251 e\314\201 \342\204\253\357\254\201 \344\270\255\346\226\207 \304\260\316\243 "
     "a\342\200\213b\011c\001 \343\200\200x  ",
     "  Cafe\314\201 e\314\201 A\314\212\357\254\201 \344\270\255\346\226\207 I\314\207\316\243 "
     "a\342\200\213b\011c\001 \343\200\200x  "},
    {"{\"type\": \"NFKC\"}",
     "  Caf\303\251 e\314\201 \342\204\253\357\254\201 \344\270\255\346\226\207 \304\260\316\243 "
     "a\342\200\213b\011c\001 \343\200\200x  ",
     "  Caf\303\251 \303\251 \303\205fi \344\270\255\346\226\207 \304\260\316\243 a\342\200\213b\011c\001  x "
     " "},
    {"{\"type\": \"NFKD\"}",
     "  Caf\303\251 e\314\201 \342\204\253\357\254\201 \344\270\255\346\226\207 \304\260\316\243 "
     "a\342\200\213b\011c\001 \343\200\200x  ",
     "  Cafe\314\201 e\314\201 A\314\212fi \344\270\255\346\226\207 I\314\207\316\243 "
     "a\342\200\213b\011c\001  x  "},
    {"{\"type\": \"Lowercase\"}",
     "  Caf\303\251 e\314\201 \342\204\253\357\254\201 \344\270\255\346\226\207 \304\260\316\243 "
     "a\342\200\213b\011c\001 \343\200\200x  ",
     "  caf\303\251 e\314\201 \303\245\357\254\201 \344\270\255\346\226\207 i\314\207\317\203 "
     "a\342\200\213b\011c\001 \343\200\200x  "},
    {"{\"type\": \"StripAccents\"}",
     "  Caf\303\251 e\314\201 \342\204\253\357\254\201 \344\270\255\346\226\207 \304\260\316\243 "
     "a\342\200\213b\011c\001 \343\200\200x  ",
     "  Caf\303\251 e \342\204\253\357\254\201 \344\270\255\346\226\207 \304\260\316\243 "
     "a\342\200\213b\011c\001 \343\200\200x  "},
    {"{\"type\": \"Strip\", \"strip_left\": true, \"strip_right\": true}",
     "  Caf\303\251 e\314\201 \342\204\253\357\254\201 \344\270\255\346\226\207 \304\260\316\243 "
     "a\342\200\213b\011c\001 \343\200\200x  ",
     "Caf\303\251 e\314\201 \342\204\253\357\254\201 \344\270\255\346\226\207 \304\260\316\243 "
     "a\342\200\213b\011c\001 \343\200\200x"},
    {"{\"type\": \"Strip\", \"strip_left\": false, \"strip_right\": true}",
     "  Caf\303\251 e\314\201 \342\204\253\357\254\201 \344\270\255\346\226\207 \304\260\316\243 "
     "a\342\200\213b\011c\001 \343\200\200x  ",
     "  Caf\303\251 e\314\201 \342\204\253\357\254\201 \344\270\255\346\226\207 \304\260\316\243 "
     "a\342\200\213b\011c\001 \343\200\200x"},
    {"{\"type\": \"Nmt\"}",
     "  Caf\303\251 e\314\201 \342\204\253\357\254\201 \344\270\255\346\226\207 \304\260\316\243 "
     "a\342\200\213b\011c\001 \343\200\200x  ",
     "  Caf\303\251 e\314\201 \342\204\253\357\254\201 \344\270\255\346\226\207 \304\260\316\243 a b c "
     "\343\200\200x  "},
    {"{\"type\": \"BertNormalizer\", \"clean_text\": true, \"handle_chinese_chars\": true, "
     "\"strip_accents\": null, \"lowercase\": true}",
     "  Caf\303\251 e\314\201 \342\204\253\357\254\201 \344\270\255\346\226\207 \304\260\316\243 "
     "a\342\200\213b\011c\001 \343\200\200x  ",
     "  cafe e a\357\254\201  \344\270\255  \346\226\207  i\317\203 ab c  x  "},
    {"{\"type\": \"BertNormalizer\", \"clean_text\": true, \"handle_chinese_chars\": true, "
     "\"strip_accents\": true, \"lowercase\": false}",
     "  Caf\303\251 e\314\201 \342\204\253\357\254\201 \344\270\255\346\226\207 \304\260\316\243 "
     "a\342\200\213b\011c\001 \343\200\200x  ",
     "  Cafe e A\357\254\201  \344\270\255  \346\226\207  I\316\243 ab c  x  "},
    {"{\"type\": \"BertNormalizer\", \"clean_text\": false, \"handle_chinese_chars\": false, "
     "\"strip_accents\": null, \"lowercase\": true}",
     "  Caf\303\251 e\314\201 \342\204\253\357\254\201 \344\270\255\346\226\207 \304\260\316\243 "
     "a\342\200\213b\011c\001 \343\200\200x  ",
     "  cafe e a\357\254\201 \344\270\255\346\226\207 i\317\203 a\342\200\213b\011c\001 \343\200\200x  "},
    {"{\"type\": \"Prepend\", \"prepend\": \"_\"}",
     "  Caf\303\251 e\314\201 \342\204\253\357\254\201 \344\270\255\346\226\207 \304\260\316\243 "
     "a\342\200\213b\011c\001 \343\200\200x  ",
     "_  Caf\303\251 e\314\201 \342\204\253\357\254\201 \344\270\255\346\226\207 \304\260\316\243 "
     "a\342\200\213b\011c\001 \343\200\200x  "},
    {"{\"type\": \"Replace\", \"pattern\": {\"String\": \"e\"}, \"content\": \"EE\"}",
     "  Caf\303\251 e\314\201 \342\204\253\357\254\201 \344\270\255\346\226\207 \304\260\316\243 "
     "a\342\200\213b\011c\001 \343\200\200x  ",
     "  Caf\303\251 EE\314\201 \342\204\253\357\254\201 \344\270\255\346\226\207 \304\260\316\243 "
     "a\342\200\213b\011c\001 \343\200\200x  "},
    {"{\"type\": \"Replace\", \"pattern\": {\"Regex\": \"\\\\s+\"}, \"content\": \" \"}",
     "  Caf\303\251 e\314\201 \342\204\253\357\254\201 \344\270\255\346\226\207 \304\260\316\243 "
     "a\342\200\213b\011c\001 \343\200\200x  ",
     " Caf\303\251 e\314\201 \342\204\253\357\254\201 \344\270\255\346\226\207 \304\260\316\243 "
     "a\342\200\213b c\001 x "},
    {"{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFD\"}, {\"type\": \"StripAccents\"}, "
     "{\"type\": \"Lowercase\"}]}",
     "  Caf\303\251 e\314\201 \342\204\253\357\254\201 \344\270\255\346\226\207 \304\260\316\243 "
     "a\342\200\213b\011c\001 \343\200\200x  ",
     "  cafe e a\357\254\201 \344\270\255\346\226\207 i\317\203 a\342\200\213b\011c\001 \343\200\200x  "},
    {"{\"type\": \"ByteLevel\"}",
     "  Caf\303\251 e\314\201 \342\204\253\357\254\201 \344\270\255\346\226\207 \304\260\316\243 "
     "a\342\200\213b\011c\001 \343\200\200x  ",
     "\304\240\304\240Caf\303\203\302\251\304\240e\303\214\304\243\304\240\303\242\304\246\302\253\303\257"
     "\302\254\304\243\304\240\303\244\302\270\305\203\303\246\304\270\304\251\304\240\303\204\302\260\303"
     "\216\302\243\304\240a\303\242\304\242\304\255b\304\211c\304\201\304\240\303\243\304\242\304\242x\304"
     "\240\304\240"},
};
const Case kPreTokenizers[] = {
    {"{\"type\": \"Whitespace\"}",
     "Hey  friend, how's \344\270\255\346\226\207--12 3!\012 a_b \302\241x\314\201y",
     "Hey|friend|,|how|'|s|\344\270\255\346\226\207|--|12|3|!|a_b|\302\241|x\314\201y"},
    {"{\"type\": \"WhitespaceSplit\"}",
     "Hey  friend, how's \344\270\255\346\226\207--12 3!\012 a_b \302\241x\314\201y",
     "Hey|friend,|how's|\344\270\255\346\226\207--12|3!|a_b|\302\241x\314\201y"},
    {"{\"type\": \"BertPreTokenizer\"}",
     "Hey  friend, how's \344\270\255\346\226\207--12 3!\012 a_b \302\241x\314\201y",
     "Hey|friend|,|how|'|s|\344\270\255\346\226\207|-|-|12|3|!|a|_|b|\302\241|x\314\201y"},
    {"{\"type\": \"Punctuation\", \"behavior\": \"Isolated\"}",
     "Hey  friend, how's \344\270\255\346\226\207--12 3!\012 a_b \302\241x\314\201y",
     "Hey  friend|,| how|'|s \344\270\255\346\226\207|-|-|12 3|!|\012 a|_|b |\302\241|x\314\201y"},
    {"{\"type\": \"Punctuation\", \"behavior\": \"Removed\"}",
     "Hey  friend, how's \344\270\255\346\226\207--12 3!\012 a_b \302\241x\314\201y",
     "Hey  friend| how|s \344\270\255\346\226\207|12 3|\012 a|b |x\314\201y"},
    {"{\"type\": \"Punctuation\", \"behavior\": \"MergedWithPrevious\"}",
     "Hey  friend, how's \344\270\255\346\226\207--12 3!\012 a_b \302\241x\314\201y",
     "Hey  friend,| how'|s \344\270\255\346\226\207-|-|12 3!|\012 a_|b \302\241|x\314\201y"},
    {"{\"type\": \"Punctuation\", \"behavior\": \"MergedWithNext\"}",
     "Hey  friend, how's \344\270\255\346\226\207--12 3!\012 a_b \302\241x\314\201y",
     "Hey  friend|, how|'s \344\270\255\346\226\207|-|-12 3|!\012 a|_b |\302\241x\314\201y"},
    {"{\"type\": \"Punctuation\", \"behavior\": \"Contiguous\"}",
     "Hey  friend, how's \344\270\255\346\226\207--12 3!\012 a_b \302\241x\314\201y",
     "Hey  friend|,| how|'|s \344\270\255\346\226\207|--|12 3|!|\012 a|_|b |\302\241|x\314\201y"},
    {"{\"type\": \"Digits\", \"individual_digits\": true}",
     "Hey  friend, how's \344\270\255\346\226\207--12 3!\012 a_b \302\241x\314\201y",
     "Hey  friend, how's \344\270\255\346\226\207--|1|2| |3|!\012 a_b \302\241x\314\201y"},
    {"{\"type\": \"Digits\", \"individual_digits\": false}",
     "Hey  friend, how's \344\270\255\346\226\207--12 3!\012 a_b \302\241x\314\201y",
     "Hey  friend, how's \344\270\255\346\226\207--|12| |3|!\012 a_b \302\241x\314\201y"},
    {"{\"type\": \"CharDelimiterSplit\", \"delimiter\": \"e\"}",
     "Hey  friend, how's \344\270\255\346\226\207--12 3!\012 a_b \302\241x\314\201y",
     "H|y  fri|nd, how's \344\270\255\346\226\207--12 3!\012 a_b \302\241x\314\201y"},
    {"{\"type\": \"Split\", \"pattern\": {\"String\": \" \"}, \"behavior\": \"Removed\", \"invert\": false}",
     "Hey  friend, how's \344\270\255\346\226\207--12 3!\012 a_b \302\241x\314\201y",
     "Hey|friend,|how's|\344\270\255\346\226\207--12|3!\012|a_b|\302\241x\314\201y"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\w+\"}, \"behavior\": \"Isolated\", \"invert\": "
     "true}",
     "Hey  friend, how's \344\270\255\346\226\207--12 3!\012 a_b \302\241x\314\201y",
     "Hey|  |friend|, |how|'|s| |\344\270\255\346\226\207|--|12| |3|!\012 |a_b| \302\241|x\314\201y"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"[a-z]+\"}, \"behavior\": \"Removed\", \"invert\": "
     "true}",
     "Hey  friend, how's \344\270\255\346\226\207--12 3!\012 a_b \302\241x\314\201y",
     "ey|friend|how|s|a|b|x|y"},
    {"{\"type\": \"Split\", \"pattern\": {\"String\": \"e\"}, \"behavior\": \"MergedWithPrevious\", "
     "\"invert\": false}",
     "Hey  friend, how's \344\270\255\346\226\207--12 3!\012 a_b \302\241x\314\201y",
     "He|y  frie|nd, how's \344\270\255\346\226\207--12 3!\012 a_b \302\241x\314\201y"},
    {"{\"type\": \"Split\", \"pattern\": {\"String\": \"e\"}, \"behavior\": \"MergedWithNext\", \"invert\": "
     "false}",
     "Hey  friend, how's \344\270\255\346\226\207--12 3!\012 a_b \302\241x\314\201y",
     "H|ey  fri|end, how's \344\270\255\346\226\207--12 3!\012 a_b \302\241x\314\201y"},
    {"{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"WhitespaceSplit\"}, {\"type\": "
     "\"Punctuation\", \"behavior\": \"Isolated\"}, {\"type\": \"Digits\", \"individual_digits\": true}]}",
     "Hey  friend, how's \344\270\255\346\226\207--12 3!\012 a_b \302\241x\314\201y",
     "Hey|friend|,|how|'|s|\344\270\255\346\226\207|-|-|1|2|3|!|a|_|b|\302\241|x\314\201y"},
    {"{\"type\": \"Metaspace\", \"replacement\": \"\\u2581\", \"prepend_scheme\": \"always\", \"split\": "
     "true}",
     "Hey  friend, how's \344\270\255\346\226\207--12 3!\012 a_b \302\241x\314\201y",
     "\342\226\201Hey|\342\226\201|\342\226\201friend,|\342\226\201how's|"
     "\342\226\201\344\270\255\346\226\207--12|\342\226\2013!\012|\342\226\201a_b|"
     "\342\226\201\302\241x\314\201y"},
    {"{\"type\": \"Metaspace\", \"replacement\": \"\\u2581\", \"prepend_scheme\": \"never\", \"split\": "
     "true}",
     "Hey  friend, how's \344\270\255\346\226\207--12 3!\012 a_b \302\241x\314\201y",
     "Hey|\342\226\201|\342\226\201friend,|\342\226\201how's|\342\226\201\344\270\255\346\226\207--12|"
     "\342\226\2013!\012|\342\226\201a_b|\342\226\201\302\241x\314\201y"},
    {"{\"type\": \"Metaspace\", \"replacement\": \"_\", \"prepend_scheme\": \"first\", \"split\": false}",
     "Hey  friend, how's \344\270\255\346\226\207--12 3!\012 a_b \302\241x\314\201y",
     "_Hey__friend,_how's_\344\270\255\346\226\207--12_3!\012_a_b_\302\241x\314\201y"},
};
const Case kDecoders[] = {
    {"{\"type\": \"WordPiece\", \"prefix\": \"##\", \"cleanup\": true}",
     "I|##t|##'s|do|n't|##|wor|##king|.|##x", "It's don't working.x"},
    {"{\"type\": \"WordPiece\", \"prefix\": \"##\", \"cleanup\": false}", "a|##b|.", "ab ."},
    {"{\"type\": \"Metaspace\", \"replacement\": \"\\u2581\", \"prepend_scheme\": \"always\", \"split\": "
     "true}",
     "\342\226\201Hey|\342\226\201you|x\342\226\201", "Hey youx "},
    {"{\"type\": \"BPEDecoder\", \"suffix\": \"</w>\"}", "a|b</w>|c</w>", "ab c"},
    {"{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": {\"String\": "
     "\"\\u2581\"}, \"content\": \" \"}, {\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}, {\"type\": "
     "\"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}]}",
     "\342\226\201a|<0xC3>|<0xA9>|\342\226\201b", "a\303\251 b"},
    {"{\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, \"use_regex\": true}",
     "\304\240a|\303\203\302\251|b", " a\303\251b"},
    {"{\"type\": \"Strip\", \"content\": \"_\", \"start\": 1, \"stop\": 1}", "__a_|b_", "_ab"},
};
const EncodeCase kModels[] = {
    {"{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[{\"id\":1,\"content\":\"["
     "CLS]\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true},{"
     "\"id\":2,\"content\":\"[SEP]\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":"
     "false,\"special\":true}],\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_"
     "chinese_chars\":true,\"strip_accents\":null,\"lowercase\":true},\"pre_tokenizer\":{\"type\":"
     "\"BertPreTokenizer\"},\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",2],\"cls\":["
     "\"[CLS]\",1]},\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true},\"model\":{"
     "\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\",\"max_input_chars_"
     "per_word\":100,\"vocab\":{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2,\"un\":3,\"##aff\":4,\"##able\":5,\"##"
     "a\":6,\"hello\":7,\",\":8}}}",
     "Unaffable, hello",
     {1, 3, 4, 5, 8, 7, 2}},
    {"{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[{\"id\":1,\"content\":\"["
     "CLS]\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true},{"
     "\"id\":2,\"content\":\"[SEP]\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":"
     "false,\"special\":true}],\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_"
     "chinese_chars\":true,\"strip_accents\":null,\"lowercase\":true},\"pre_tokenizer\":{\"type\":"
     "\"BertPreTokenizer\"},\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",2],\"cls\":["
     "\"[CLS]\",1]},\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true},\"model\":{"
     "\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\",\"max_input_chars_"
     "per_word\":100,\"vocab\":{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2,\"un\":3,\"##aff\":4,\"##able\":5,\"##"
     "a\":6,\"hello\":7,\",\":8}}}",
     "unaffa xyz H\303\211LLO",
     {1, 3, 4, 6, 0, 7, 2}},
    {"{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[{\"id\":1,\"content\":\"["
     "CLS]\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true},{"
     "\"id\":2,\"content\":\"[SEP]\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":"
     "false,\"special\":true}],\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_"
     "chinese_chars\":true,\"strip_accents\":null,\"lowercase\":true},\"pre_tokenizer\":{\"type\":"
     "\"BertPreTokenizer\"},\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",2],\"cls\":["
     "\"[CLS]\",1]},\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true},\"model\":{"
     "\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\",\"max_input_chars_"
     "per_word\":100,\"vocab\":{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2,\"un\":3,\"##aff\":4,\"##able\":5,\"##"
     "a\":6,\"hello\":7,\",\":8}}}",
     "",
     {1, 2}},
    {"{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[{\"id\":1,\"content\":\"["
     "CLS]\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true},{"
     "\"id\":2,\"content\":\"[SEP]\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":"
     "false,\"special\":true}],\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_"
     "chinese_chars\":true,\"strip_accents\":null,\"lowercase\":true},\"pre_tokenizer\":{\"type\":"
     "\"BertPreTokenizer\"},\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",2],\"cls\":["
     "\"[CLS]\",1]},\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true},\"model\":{"
     "\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\",\"max_input_chars_"
     "per_word\":100,\"vocab\":{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2,\"un\":3,\"##aff\":4,\"##able\":5,\"##"
     "a\":6,\"hello\":7,\",\":8}}}",
     "[CLS]",
     {1, 1, 2}},
    {"{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[],\"normalizer\":null,"
     "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\342\226\201\",\"prepend_scheme\":"
     "\"always\",\"split\":true},\"post_processor\":null,\"decoder\":{\"type\":\"Metaspace\",\"replacement\":"
     "\"\342\226\201\",\"prepend_scheme\":\"always\",\"split\":true},\"model\":{\"type\":\"Unigram\",\"unk_"
     "id\":0,\"vocab\":[[\"<unk>\",0.0],[\"\342\226\201\",-2.0],[\"a\",-3.0],[\"b\",-3.5],[\"ab\",-4.0],["
     "\"\342\226\201ab\",-3.0],[\"c\",-5.0],[\"<0xC3>\",-9.0],[\"<0xA9>\",-9.0]],\"byte_fallback\":true}}",
     "abab ab ba",
     {5, 4, 5, 1, 3, 2}},
    {"{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[],\"normalizer\":null,"
     "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\342\226\201\",\"prepend_scheme\":"
     "\"always\",\"split\":true},\"post_processor\":null,\"decoder\":{\"type\":\"Metaspace\",\"replacement\":"
     "\"\342\226\201\",\"prepend_scheme\":\"always\",\"split\":true},\"model\":{\"type\":\"Unigram\",\"unk_"
     "id\":0,\"vocab\":[[\"<unk>\",0.0],[\"\342\226\201\",-2.0],[\"a\",-3.0],[\"b\",-3.5],[\"ab\",-4.0],["
     "\"\342\226\201ab\",-3.0],[\"c\",-5.0],[\"<0xC3>\",-9.0],[\"<0xA9>\",-9.0]],\"byte_fallback\":true}}",
     "c\303\251 zz\303\274a",
     {1, 6, 7, 8, 1, 0, 2}},
    {"{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[],\"normalizer\":null,"
     "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\342\226\201\",\"prepend_scheme\":"
     "\"always\",\"split\":true},\"post_processor\":null,\"decoder\":{\"type\":\"Metaspace\",\"replacement\":"
     "\"\342\226\201\",\"prepend_scheme\":\"always\",\"split\":true},\"model\":{\"type\":\"Unigram\",\"unk_"
     "id\":0,\"vocab\":[[\"<unk>\",0.0],[\"\342\226\201\",-2.0],[\"a\",-3.0],[\"b\",-3.5],[\"ab\",-4.0],["
     "\"\342\226\201ab\",-3.0],[\"c\",-5.0],[\"<0xC3>\",-9.0],[\"<0xA9>\",-9.0]],\"byte_fallback\":true}}",
     "\303\274\303\274 ab",
     {1, 0, 5}},
    {"{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[],\"normalizer\":null,"
     "\"pre_tokenizer\":{\"type\":\"Whitespace\"},\"post_processor\":null,\"decoder\":null,\"model\":{"
     "\"type\":\"WordLevel\",\"vocab\":{\"<unk>\":0,\"a\":1,\"b\":2,\"!\":3},\"unk_token\":\"<unk>\"}}",
     "a b!",
     {1, 2, 3}},
    {"{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[],\"normalizer\":null,"
     "\"pre_tokenizer\":{\"type\":\"Whitespace\"},\"post_processor\":null,\"decoder\":null,\"model\":{"
     "\"type\":\"WordLevel\",\"vocab\":{\"<unk>\":0,\"a\":1,\"b\":2,\"!\":3},\"unk_token\":\"<unk>\"}}",
     "c a? b",
     {0, 1, 0, 2}},
};

}  // namespace

TEST_CASE("normalizers", "[tokenizer]") {
  for (const Case& c : kNormalizers) {
    INFO(c.json);
    const Normalizer normalizer(parse_json(c.json, "case"));
    CHECK(normalizer.apply(c.given) == c.expected);
    CHECK(normalizer.apply("").empty());
    const AlignedText aligned = normalizer.apply(AlignedText(c.given, true));
    CHECK(aligned.text == c.expected);
    CHECK(aligned.origins.size() == aligned.text.size());
  }
}

TEST_CASE("clean_text drops the format characters of Unicode 8, not later ones", "[tokenizer]") {
  const Normalizer clean(parse_json(R"({"type": "BertNormalizer", "clean_text": true, "lowercase": false,
      "handle_chinese_chars": false, "strip_accents": false})",
                                    "case"));
  CHECK(clean.apply("a\xC2\xAD\xE2\x80\x8B"
                    "b") == "ab");  // U+00AD, U+200B
  // U+08E2 (Unicode 9), U+110CD (11), U+13430 (12), U+0890 (14)
  const std::string later = "\xE0\xA3\xA2\xF0\x91\x83\x8D\xF0\x93\x90\xB0\xE0\xA2\x90";
  CHECK(clean.apply(later) == later);
}

TEST_CASE("pre-tokenizers", "[tokenizer]") {
  for (const Case& c : kPreTokenizers) {
    INFO(c.json);
    const Pieces pieces = PreTokenizer(parse_json(c.json, "case")).cut(c.given, true);
    std::string joined;
    for (const Range& r : pieces.ranges)
      joined += (joined.empty() ? "" : "|") + pieces.text.substr(r.begin, r.end - r.begin);
    CHECK(joined == c.expected);
  }
}

TEST_CASE("decoders", "[tokenizer]") {
  for (const Case& c : kDecoders) {
    INFO(c.json);
    const TokenDecoder decoder(parse_json(c.json, "case"));
    std::string text;
    std::istringstream tokens(c.given);
    bool first = true;
    for (std::string token; std::getline(tokens, token, '|'); first = false)
      text += decoder.bytes_of(token, first);
    int left = decoder.strip_start;
    strip_start(decoder, left, text);
    if (!decoder.last_dropped.empty() && text.ends_with(decoder.last_dropped))
      text.resize(text.size() - decoder.last_dropped.size());
    CHECK(text == c.expected);
  }
}

TEST_CASE("WordPiece, Unigram and WordLevel", "[tokenizer]") {
  for (const EncodeCase& c : kModels) {
    INFO(c.json << " of " << c.given);
    const Tokenizer tokenizer = Tokenizer::from_json(parse_json(c.json, "case"), Json());
    CHECK(tokenizer.encode(c.given, {.parse_special = true}) == c.expected);
    const std::vector<TokenSpan> spans = tokenizer.encode_with_offsets(c.given, {.parse_special = true});
    REQUIRE(spans.size() == c.expected.size());
    for (size_t i = 0; i < spans.size(); ++i) {
      CHECK(spans[i].id == c.expected[i]);
      CHECK((spans[i].begin <= spans[i].end && spans[i].end <= std::string(c.given).size()));
    }
  }
}

TEST_CASE("offsets are bytes of the text as given", "[tokenizer]") {
  const Tokenizer words = Tokenizer::from_json(parse_json(kModels[0].json, "case"), Json());
  const std::vector<TokenSpan> spans =
      words.encode_with_offsets("[CLS] H\303\211LLO,", {.parse_special = true});
  REQUIRE(spans.size() == 5);  // the template's, [CLS], hello, the comma, the template's
  CHECK((spans[1].begin == 0 && spans[1].end == 5));
  CHECK((spans[2].id == 7 && spans[2].begin == 6 && spans[2].end == 12));
  CHECK((spans[3].id == 8 && spans[3].begin == 12 && spans[3].end == 13));
  CHECK((spans[0].end == 0 && spans[4].begin == 13));
  const Tokenizer bytes = sample_tokenizer("qwen2", 300);
  const std::string text = "The fox's \377caf\303\251\n\n 12";
  size_t at = 0;
  for (const TokenSpan& span : bytes.encode_with_offsets(text)) {
    CHECK(span.begin == at);
    CHECK(text.substr(span.begin, span.end - span.begin) == bytes.piece(span.id));
    at = span.end;
  }
  CHECK(at == text.size());
}

TEST_CASE("a whole text in a stream is the same as decoded at once", "[tokenizer]") {
  for (const EncodeCase& c : kModels) {
    const Tokenizer tokenizer = Tokenizer::from_json(parse_json(c.json, "case"), Json());
    StreamDecoder stream(tokenizer);
    std::string text;
    for (const int32_t id : c.expected) text += stream.push(id);
    CHECK(text + stream.finish() == tokenizer.decode(c.expected));
  }
}

TEST_CASE("single_word tokens stand alone", "[tokenizer]") {
  Json json = parse_json(kModels[7].json, "case");
  json["added_tokens"].push_back(
      {{"id", 4}, {"content", "ab"}, {"single_word", true}, {"normalized", false}});
  const Tokenizer tokenizer = Tokenizer::from_json(json, Json());
  CHECK(tokenizer.encode("ab a-ab xab ab\303\251") == std::vector<int32_t>{4, 1, 0, 4, 0, 0});
}
